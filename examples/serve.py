"""Classify photographs over HTTP by an exported network, without cdml_jax.

Export:  cdml export --workdir=runs/mine --out=mine.jax
Serve:   python serve.py mine.jax 8000
Ask:     curl --data-binary @photo.jpg http://localhost:8000
"""

import importlib.util
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax.export


def server(exported: Path, port: int) -> ThreadingHTTPServer:
    """A server that answers a photograph's bytes with its five likeliest classes, as JSON."""
    network = jax.jit(jax.export.deserialize(bytearray(exported.read_bytes())).call)
    about = json.loads(exported.with_name(exported.name + ".json").read_text())
    spec = importlib.util.spec_from_file_location("view", exported.with_name(exported.stem + "_view.py"))
    views = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(views)

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                view = views.view(self.rfile.read(int(self.headers["Content-Length"])), about)
            except Exception:
                return self.send_error(400, "not an image that can be read")
            (shares,) = views.probabilities(network(view[None])[0])
            best = {about["class_names"][k]: round(float(shares[k]), 6) for k in shares.argsort()[::-1][:5]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(best).encode())
            return None

    return ThreadingHTTPServer(("localhost", port), Answer)


if __name__ == "__main__":
    server(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
