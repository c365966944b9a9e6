"""What was exported, run as the page says, in a process that can import nothing of this package."""

import http.client
import importlib.util
import io
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from networks import built
from PIL import Image

from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.confusion import DenseConfusion
from cdml_jax.data import Classes
from cdml_jax.errors import UserError
from cdml_jax.inference.export import export
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.models import Spec
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.training.state import split_model

BLOCKED = ("flax", "cdml_jax", "optax", "orbax", "ml_collections", "cv2", "grain")


@pytest.fixture(scope="module")
def run():
    config = changed(defaults(), {"image.image_size": 16, "test_time_flip": True})
    graph, *trees = split_model(built("small_resnet", Spec(num_classes=5, embedding_size=24), seed=3))
    counts = DenseConfusion(np.zeros((5, 5), np.float32))
    weights = Weights(*jax.tree.map(np.asarray, trees), counts, 1)
    return TrainedRun(
        config, "birds", Classes(tuple("vwxyz")), graph, weights, jax.devices()[:1], temperature=1.7
    )


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "mine.jax"
    return out, export(run, out)


def test_it_says_what_the_run_says_for_any_batch(run, exported):
    out, platforms = exported
    page = (Path(__file__).parents[2] / "docs/own-images.md").read_text()
    (snippet,) = re.findall(r"^```python\n((?:(?!```).)*deserialize.*?)^```$", page, re.M | re.S)
    rng = np.random.default_rng(0)
    images = {f"images{size}": rng.integers(0, 256, (size, 16, 16, 3), np.uint8) for size in (1, 7)}
    np.savez(out.with_name("images.npz"), **images)
    code = f"""
import sys
import threading
for name in {BLOCKED}: sys.modules[name] = None
import numpy as np
found = {{}}
for name, images in np.load("images.npz").items():
    exec({snippet!r})
    found |= {{name + "logits": logits, name + "embeddings": embeddings, "class_names": class_names}}
np.savez("found.npz", **found)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = np.load(out.with_name("found.npz"))
    for name, batch in images.items():
        logits, embeddings = run(batch)
        np.testing.assert_allclose(found[f"{name}logits"], logits / 1.7, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found[f"{name}embeddings"], embeddings, atol=1e-6)
    assert tuple(found["class_names"]) == run.class_names
    about = json.loads(out.with_name("mine.jax.json").read_text())
    assert about["platforms"] == list(platforms) == ["cpu", "cuda", "tpu"]
    assert about["input"] == {
        "name": "images",
        "dtype": "uint8",
        "shape": ["batch", 16, 16, 3],
        "channels": "RGB",
    }
    assert about["temperature"] == 1.7
    assert about["outputs"] == {"logits": ["batch", 5], "embeddings": ["batch", 24]}
    assert (about["view"]["image_size"], about["view"]["short_side"]) == (16, 18)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photographs():
    """Files of several kinds and shapes, smaller and larger than the view."""
    rng = np.random.default_rng(1)
    large = Image.fromarray(rng.integers(0, 256, (61, 40, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = Image.fromarray(rng.integers(0, 256, (30, 50, 4), np.uint8))
    yield "turned", encoded(large, "JPEG", exif=turned)
    yield "grey", encoded(large.convert("L"), "JPEG")
    yield "small", encoded(large.resize((11, 13)), "PNG")
    yield "the view's own size", encoded(large.resize((18, 30)), "PNG")
    yield "clear", encoded(clear, "PNG")
    yield "palette with a clear colour", encoded(large.quantize(8), "PNG", transparency=3)
    yield "frames", encoded(large, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 61))])


def test_the_view_beside_it_is_what_predict_sees_without_this_package(run, exported):
    out, _ = exported
    files = dict(photographs())
    for name, data in files.items():
        out.with_name(f"{name}.photograph").write_bytes(data)
    code = f"""
import sys
import threading
for name in {("jax", *(name for name in BLOCKED if name != "cv2"))}: sys.modules[name] = None
sys.path.insert(0, ".")
import numpy as np
from mine_view import probabilities, view
views = {{name: view(name + ".photograph", "mine.jax.json") for name in {list(files)}}}
np.savez("views.npz", probabilities=probabilities([[0.0, 2.0, 1.0], [500.0, 500.0, 0.0]]), **views)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = dict(np.load(out.with_name("views.npz")))
    for name, data in files.items():
        np.testing.assert_array_equal(found[name], run.view(data), err_msg=name)
    shares = np.exp([[0.0, 2.0, 1.0], [0.0, 0.0, -500.0]])
    np.testing.assert_allclose(found["probabilities"], shares / shares.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("name", ["mine.pt", "mine", "mine.onnx.gz"])
def test_another_ending_is_refused(run, tmp_path, name):
    with pytest.raises(UserError, match=rf"--out: {re.escape(name)}: .*\.jax .*\.onnx .*\.tflite .*\.saved"):
        export(run, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "library"), [("a.onnx", "jax2onnx"), ("a.tflite", "tensorflow")])
def test_a_library_that_is_missing_is_named_with_the_extra(run, tmp_path, monkeypatch, name, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"needs {library}: pip install 'cdml_jax\[train,\w+\]'"):
        export(run, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime"))), reason="needs the extra onnx"
)
def test_onnx_says_what_the_run_says_for_any_batch(run, tmp_path):
    import onnxruntime

    assert export(run, tmp_path / "mine.onnx") == ("ONNX Runtime",)
    session = onnxruntime.InferenceSession(tmp_path / "mine.onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for size in (1, 7):
        images = rng.integers(0, 256, (size, 16, 16, 3), np.uint8)
        logits, embeddings = session.run(["logits", "embeddings"], {"images": images})
        expected = run(images)
        np.testing.assert_allclose(logits, expected.logits / 1.7, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-6)


def test_the_example_answers_photographs_over_http(run, exported):
    file = Path(__file__).parents[2] / "examples/serve.py"
    spec = importlib.util.spec_from_file_location("serve", file)
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    (guesses,) = run.predict([dict(photographs())["turned"]])
    with serve.server(exported[0], 0) as server:
        threading.Thread(target=server.serve_forever).start()
        answers = []
        for data in (dict(photographs())["turned"], b"no photograph"):
            connection = http.client.HTTPConnection(*server.server_address, timeout=60)
            connection.request("POST", "/", data)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()))
            connection.close()
        server.shutdown()
    (status, content), (refused, _) = answers
    assert (status, refused) == (200, 400)
    found = json.loads(content)
    assert list(found) == [guess.class_name for guess in guesses]
    assert list(found.values()) == pytest.approx([guess.probability for guess in guesses], abs=1e-5)
