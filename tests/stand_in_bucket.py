"""A stand-in for Google Cloud Storage: a local server that gcsfs, TensorStore and Google's client talk to.

Each of them sends what it would send to Google (the JSON API of Cloud Storage); objects, generations and
preconditions are kept in memory. Nothing of it checks a real bucket's rights, rates or latency.
"""

import base64
import itertools
import json
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c


class StandIn:
    """Buckets in memory, behind a server on this machine.

    Attributes:
      buckets: of each bucket its objects by name: (generation, content).
      requests: what was asked for, as (method, path), in order.
      refused: a status by a regular expression of `METHOD path` answers in place of the bucket.
      lost: so many next uploads are done and then answered as if they had failed.
    """

    def __init__(self, *names):
        self.buckets = {name: {} for name in names}
        self.requests, self.refused, self.lost = [], {}, 0
        self.lock, self.generations, self.uploads = threading.RLock(), itertools.count(1), {}
        methods = {f"do_{method}": _Handler.answer for method in ("GET", "POST", "PUT", "DELETE")}
        handler = type("Handler", (_Handler,), {"store": self, **methods})
        self.server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def environment(self):
        """What makes the three clients come here."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
        }

    def names(self, bucket="bucket", prefix=""):
        """Names of a bucket's objects."""
        return sorted(name for name in self.buckets[bucket] if name.startswith(prefix))

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class _RefusedError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: StandIn

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answer(self):
        address = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b"".join(iter(self.chunk, b""))
        with self.store.lock:
            self.store.requests.append((self.command, unquote(address.path)))
            try:
                for pattern, status in self.store.refused.items():
                    if re.search(pattern, f"{self.command} {unquote(address.path)}"):
                        raise _RefusedError(status)
                self.route(address.path)
            except _RefusedError as refused:
                self.reply({"error": {"code": refused.args[0], "message": "refused"}}, status=refused.args[0])

    def chunk(self):
        content = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return content

    def reply(self, content, *, status=200, headers=None):
        whole = content if isinstance(content, bytes) else json.dumps(content).encode()
        if status in (204, 304):  # which have no body
            whole = b""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)

    def route(self, path):
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/([^/]+)(?:/(.*))?)?)?", path)
        if not found:
            raise _RefusedError(501)
        upload, self.bucket, name, rest = (unquote(part or "") for part in found.groups())
        self.objects = self.store.buckets.get(self.bucket)
        if self.objects is None:
            raise _RefusedError(404)
        if upload == "/upload":
            self.upload()
        elif rest:
            kind, target = re.match(r"(moveTo|copyTo|rewriteTo)/(?:b/[^/]+/)?o/(.*)", rest).groups()
            self.reply(self.move(kind, name, target))
        elif name:
            self.one(name)
        elif path.endswith("/o"):
            self.list()
        else:
            self.reply({"kind": "storage#bucket", "name": self.bucket, "id": self.bucket})

    def check(self, name):
        """The preconditions of a request; generation 0 is an object that is not there."""
        now = self.objects[name][0] if name in self.objects else 0
        if int(self.query.get("ifGenerationMatch", now)) != now:
            raise _RefusedError(412)
        if int(self.query.get("ifGenerationNotMatch", -1)) == now:
            raise _RefusedError(304)

    def one(self, name):
        self.check(name)
        if name not in self.objects:
            raise _RefusedError(404)
        generation, content = self.objects[name]
        if self.command == "DELETE":
            del self.objects[name]
            return self.reply(b"", status=204)
        if self.query.get("alt") != "media":
            return self.reply(self.about(name))
        headers = {"x-goog-generation": str(generation), "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.reply(content, headers=headers)
        first, last = wanted.groups()
        begin = int(first) if first else max(len(content) - int(last), 0)
        end = min(int(last) + 1, len(content)) if first and last else len(content)
        if begin >= len(content):
            raise _RefusedError(416)
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        return self.reply(content[begin:end], status=206, headers=headers)

    def about(self, name):
        generation, content = self.objects[name]
        return {
            "kind": "storage#object",
            "bucket": self.bucket,
            "name": name,
            "size": str(len(content)),
            "generation": str(generation),
            "metageneration": "1",
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "crc32c": base64.b64encode(struct.pack(">I", google_crc32c.value(content))).decode(),
        }

    def list(self):
        prefix, mark = self.query.get("prefix", ""), self.query.get("delimiter", "")
        first, beyond = self.query.get("startOffset", ""), self.query.get("endOffset", "")
        entries = {}
        for name in self.store.names(self.bucket, prefix):
            if name < first or (beyond and name >= beyond):
                continue
            at = name.find(mark, len(prefix)) if mark else -1
            entries[name[: at + len(mark)] if at >= 0 else name] = at >= 0
        after = self.query.get("pageToken", "")
        left = [entry for entry in entries if entry > after]
        page = left[: int(self.query.get("maxResults", 1000))]
        answer = {"kind": "storage#objects", "items": [self.about(e) for e in page if not entries[e]]}
        answer["prefixes"] = [entry for entry in page if entries[entry]]
        self.reply(answer | ({"nextPageToken": page[-1]} if len(page) < len(left) else {}))

    def move(self, kind, name, target):
        if name not in self.objects:
            raise _RefusedError(404)
        self.objects[target] = (next(self.store.generations), self.objects[name][1])
        if kind == "moveTo":
            del self.objects[name]
        about = self.about(target)
        return {"done": True, "resource": about} if kind == "rewriteTo" else about

    def upload(self):
        kind, content = self.query["uploadType"], self.body
        if kind == "multipart":
            boundary = re.search(r"boundary=\"?([^\";]+)", self.headers["Content-Type"])[1].encode()
            _, about, content, _ = content.split(b"--" + boundary)
            about = json.loads(re.split(rb"\r?\n\r?\n", about, maxsplit=1)[1])
            # A blank line ends the part's headers; the last line's end belongs to the boundary.
            content = re.sub(rb"\r?\n\Z", b"", re.split(rb"\r?\n\r?\n", content, maxsplit=1)[1])
            return self.write(about["name"], content)
        if kind == "media":
            return self.write(self.query["name"], content)
        if "upload_id" not in self.query:
            key = str(next(self.store.generations))
            name = self.query.get("name") or json.loads(self.body)["name"]
            self.check(name)
            self.store.uploads[key] = (name, b"")
            where = (
                f"{self.store.url}/upload/storage/v1/b/{self.bucket}/o?uploadType=resumable&upload_id={key}"
            )
            return self.reply({}, headers={"Location": where})
        name, before = self.store.uploads[self.query["upload_id"]]
        whole = before + content
        total = self.headers.get("Content-Range", "*").rpartition("/")[2]
        if not total.isdecimal() or int(total) > len(whole):
            self.store.uploads[self.query["upload_id"]] = (name, whole)
            return self.reply(b"", status=308, headers={"Range": f"bytes=0-{len(whole) - 1}"})
        return self.write(name, whole)

    def write(self, name, content):
        self.check(name)
        self.objects[name] = (next(self.store.generations), content)
        if self.store.lost:
            self.store.lost -= 1
            raise _RefusedError(503)
        return self.reply(self.about(name))
