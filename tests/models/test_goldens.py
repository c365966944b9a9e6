"""Every network against torchvision, timm or transformers: the same weights, the same outputs.

The goldens were made by goldens/make_goldens.py; the weights are drawn again here and go through the tables
of names.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from golden_recipe import NUM_CLASSES, images, weights

from cdml_jax.models import NETWORKS, Spec, build
from cdml_jax.models.weights.files import WeightFile
from cdml_jax.models.weights.loading import fill_weights
from cdml_jax.training.state import split_model

GOLDENS = sorted(Path(__file__).parent.glob("goldens/*.npz"))
# Deeper or wider than another network of their family; their references are compared by make test-all.
LARGER = (
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet34",
    "resnet50",
    "resnet101",
    "vgg16.",
    "vgg19",
    "vit_base",
)
MARKED = [
    pytest.param(path, marks=pytest.mark.slow if path.name.startswith(LARGER) else (), id=path.stem)
    for path in GOLDENS
]
TOLERANCE = 1e-4  # of the largest output


def test_every_network_that_takes_foreign_weights_has_a_golden():
    have = {path.name.partition(".")[0] for path in GOLDENS}
    take = {name for name, variant in NETWORKS.items() if variant.tables()}
    assert have == set(NETWORKS) - {"small_resnet"} == take


@pytest.mark.parametrize("path", MARKED)
def test_outputs_are_those_of_the_reference(path):
    golden = np.load(path)
    network, _, source = path.stem.partition(".")
    logits_too = any(key.startswith("logits") for key in golden)
    spec = Spec(num_classes=NUM_CLASSES, style="tensorflow" if source == "tensorflow" else "")
    graph, *trees = split_model(nnx.eval_shape(lambda: build(network, spec, rngs=nnx.Rngs(0))))
    values = weights(json.loads(str(golden["shapes"])), float(golden["gain"]))
    trees = fill_weights(WeightFile(values, {}, path), *trees, network=network, keep_classifier=logits_too)
    trees = jax.tree.map(lambda x: x if isinstance(x, np.ndarray) else np.zeros(x.shape, x.dtype), trees)

    def forward(trees, images):
        model = nnx.merge(graph, *trees)
        features = model.front(images, len(model.blocks) + 1, train=False)
        return features, model.heads(features)

    # Two calls each: less optimisation costs them less time than it saves.
    run = jax.jit(forward, compiler_options={"xla_backend_optimization_level": 1})

    for height, width in golden["sizes"]:
        features, outputs = run(trees, images(height, width))
        expected = golden[f"features_{height}x{width}"]
        assert_close(np.asarray(features)[:, : expected.shape[1]], expected)
        if logits_too:
            assert_close(np.asarray(outputs.logits), golden[f"logits_{height}x{width}"])


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
