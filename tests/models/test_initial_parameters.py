"""Initial parameters of a seed stay what they were: results that were measured can be measured again."""

import hashlib

import numpy as np
import pytest
from flax import nnx
from networks import built

from cdml_jax.models import (
    Spec,
    build,
    efficientnet_lite,
    googlenet,
    mobilenet_v2,
    resnet,
    small_resnet,
    vgg,
    vit,
)
from cdml_jax.system.trees import named_leaves
from cdml_jax.training.state import split_model

SMALL_LITE = {
    "STAGES": tuple(efficientnet_lite.Stage(*s) for s in ((1, 3, 1, 1, 4), (2, 5, 2, 6, 6), (1, 3, 1, 6, 8))),
    "STEM": 8,
    "FEATURES": 10,
}
# One network of each form: what makes it small, and the digest of names, dtypes, shapes and values.
CASES = {
    "small_resnet": (small_resnet, {"WIDTHS": (4, 6)}, "3dfa4d8c26f8e3d1"),
    "mobilenet_v2": (
        mobilenet_v2,
        {"STAGES": ((1, 4, 1, 1), (2, 6, 2, 2)), "STEM": 8, "FEATURES": 10},
        "0945127baa2898a3",
    ),
    "efficientnet_lite0": (efficientnet_lite, SMALL_LITE, "ecd8e202a8b75205"),
    "efficientnet_lite2": (efficientnet_lite, SMALL_LITE, "60d4faa77dc5b153"),
    "resnet18": (resnet, {"DEPTHS": {18: (1, 2)}, "WIDTHS": (4, 6)}, "61b857bd03e24b40"),
    "resnet50": (resnet, {"DEPTHS": {50: (2, 1)}, "WIDTHS": (4, 6)}, "56c149f321a84ccf"),
    "googlenet": (
        googlenet,
        {"BLOCKS": {"inception3a": googlenet.Widths(2, 3, 4, 2, 3, 2)}},
        "0ba7f5e1edc4795e",
    ),
    "vgg16": (
        vgg,
        {"DEPTHS": {16: (1, 2)}, "WIDTHS": (4, 6), "FEATURES": 8, "GRID": 2},
        "bb7cbfa502794f93",
    ),
    "vgg16_bn": (
        vgg,
        {"DEPTHS": {16: (1, 2)}, "WIDTHS": (4, 6), "FEATURES": 8, "GRID": 2},
        "c2ef13a66ea23dbe",
    ),
    "vit_small_patch14_dinov2": (vit, {"BLOCKS": 1}, "9c01decbf6fec6b3"),
    "vit_small_patch16": (vit, {"BLOCKS": 1}, "30886cb9bba63792"),
}


@pytest.mark.parametrize("name", CASES)
def test_initial_parameters_of_a_seed_are_those_of_the_first_release(name, monkeypatch):
    file, sizes, expected = CASES[name]
    for constant, value in sizes.items():
        monkeypatch.setattr(file, constant, value)
    spec = Spec(num_classes=7, embedding_size=9)
    # The digests are of arrays made one by one. One program is quicker; of a ViT it rounds otherwise.
    model = build(name, spec, rngs=nnx.Rngs(0)) if name.startswith("vit") else built(name, spec)
    digest = hashlib.sha256()
    for key, leaf in named_leaves(split_model(model)[1:]):
        digest.update(f"{key} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.asarray(leaf).tobytes())
    assert digest.hexdigest()[:16] == expected
