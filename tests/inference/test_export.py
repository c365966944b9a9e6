"""What was exported, run as the README says, in a process that can import nothing of this package."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.confusion import DenseConfusion
from cdml_jax.data import Classes
from cdml_jax.inference.export import export
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.models import Spec, build
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.training.state import split_model

BLOCKED = ("flax", "cdml_jax", "optax", "orbax", "ml_collections", "cv2", "grain")


@pytest.fixture(scope="module")
def run():
    config = changed(defaults(), {"image.image_size": 16, "test_time_flip": True})
    network = build("small_resnet", Spec(num_classes=5, embedding_size=24), rngs=nnx.Rngs(3))
    graph, parameters, statistics = jax.tree.map(lambda leaf: leaf, split_model(network))
    counts = DenseConfusion(np.zeros((5, 5), np.float32))
    weights = Weights(*jax.tree.map(np.asarray, (parameters, statistics)), counts, 1)
    return TrainedRun(config, "birds", Classes(tuple("vwxyz")), graph, weights, jax.devices()[:1])


def test_it_says_what_the_run_says_for_any_batch(run, tmp_path):
    platforms = export(run, tmp_path / "mine.jax")
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (snippet,) = re.findall(r"^```python\n((?:(?!```).)*deserialize.*?)^```$", readme, re.M | re.S)
    rng = np.random.default_rng(0)
    images = {f"images{size}": rng.integers(0, 256, (size, 16, 16, 3), np.uint8) for size in (1, 7)}
    np.savez(tmp_path / "images.npz", **images)
    code = f"""
import sys
for name in {BLOCKED}: sys.modules[name] = None
import numpy as np
found = {{}}
for name, images in np.load("images.npz").items():
    exec({snippet!r})
    found |= {{name + "logits": logits, name + "embeddings": embeddings, "class_names": class_names}}
np.savez("found.npz", **found)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    for name, batch in images.items():
        logits, embeddings = run(batch)
        np.testing.assert_allclose(found[f"{name}logits"], logits, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found[f"{name}embeddings"], embeddings, atol=1e-6)
    assert tuple(found["class_names"]) == run.class_names
    about = json.loads((tmp_path / "mine.jax.json").read_text())
    assert about["platforms"] == list(platforms) == ["cpu", "cuda", "tpu"]
    assert about["input"] == "uint8 (batch, 16, 16, 3), RGB"
