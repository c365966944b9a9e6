"""GoogLeNet (C. Szegedy et al., CVPR 2015) with batch norm and no auxiliary heads, torchvision's form.

Its 5 x 5 branch is a 3 x 3 one, as in torchvision. It takes images in [-1, 1] as they are: with its weights
torchvision undoes the ImageNet scaling before the first layer (`transform_input`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import ConvNorm, max_pool, mean_pool
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.pixels import scale_input
from cdml_jax.models.spec import HALF, Convention, Spec
from cdml_jax.models.weights.conversion import Table

CONVENTION = Convention("symmetric", 1e-3, *HALF)


class Widths(NamedTuple):
    """Output channels inside an inception block, and the window of the pooling before it (0 for none)."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int
    window: int = 0


BLOCKS = {
    "inception3a": Widths(64, 96, 128, 16, 32, 32, window=3),
    "inception3b": Widths(128, 128, 192, 32, 96, 64),
    "inception4a": Widths(192, 96, 208, 16, 48, 64, window=3),
    "inception4b": Widths(160, 112, 224, 24, 64, 64),
    "inception4c": Widths(128, 128, 256, 24, 64, 64),
    "inception4d": Widths(112, 144, 288, 32, 64, 64),
    "inception4e": Widths(256, 160, 320, 32, 128, 128),
    "inception5a": Widths(256, 160, 320, 32, 128, 128, window=2),
    "inception5b": Widths(384, 192, 384, 48, 128, 128),
}
# Our convolutions of a block and theirs.
_BRANCHES = {
    "one": "branch1",
    "three_reduce": "branch2.0",
    "three": "branch2.1",
    "five_reduce": "branch3.0",
    "five": "branch3.1",
    "pool": "branch4.1",
}


class Inception(nnx.Module):
    """Four branches side by side; a pooling by 2 before them where the table says so."""

    def __init__(self, inputs: int, widths: Widths, conv_norm: Callable[..., ConvNorm]):
        self.window = widths.window
        self.one = conv_norm(inputs, widths.one, 1)
        self.three_reduce = conv_norm(inputs, widths.three_reduce, 1)
        self.three = conv_norm(widths.three_reduce, widths.three, 3)
        self.five_reduce = conv_norm(inputs, widths.five_reduce, 1)
        self.five = conv_norm(widths.five_reduce, widths.five, 3)
        self.pool = conv_norm(inputs, widths.pool, 1)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if self.window:
            x = max_pool(x, self.window, 2, ceil=True)
        branches = (
            self.one(x, train=train),
            self.three(self.three_reduce(x, train=train), train=train),
            self.five(self.five_reduce(x, train=train), train=train),
            self.pool(max_pool(x, 3, 1, padding=1), train=train),
        )
        return jnp.concatenate(branches, axis=-1)


class GoogLeNet(Network):
    """Three convolutions, nine inception blocks, mean pooling, two heads; 1024 features."""

    options = ("freeze_batch_norm", "remat")
    entry_names = ("conv1", "conv2", "conv3")

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(spec)
        conv_norm = functools.partial(ConvNorm, spec=spec, convention=CONVENTION, rngs=rngs)
        self.conv1 = conv_norm(3, 64, 7, stride=2)
        self.conv2 = conv_norm(64, 64, 1)
        self.conv3 = conv_norm(64, 192, 3)
        blocks, inputs = [], 192
        for widths in BLOCKS.values():
            blocks.append(Inception(inputs, widths, conv_norm))
            inputs = widths.one + widths.three + widths.five + widths.pool
        self.blocks = nnx.List(blocks)
        self.heads = Heads(inputs, spec, rngs=rngs)

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = scale_input(images, CONVENTION).astype(self.dtype)
        x = max_pool(self.conv1(x, train=train), 3, 2, ceil=True)
        return self.conv3(self.conv2(x, train=train), train=train)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return mean_pool(x)


def tables() -> dict[str, Table]:
    """Names of torchvision's `googlenet`; its auxiliary heads are left."""
    modules: dict[str, str] = {}
    for ours in ("conv1", "conv2", "conv3"):
        modules |= {f"{ours}.conv": f"{ours}.conv", f"{ours}.norm": f"{ours}.bn"}
    for number, theirs in enumerate(BLOCKS):
        for branch, place in _BRANCHES.items():
            modules[f"blocks.{number}.{branch}.conv"] = f"{theirs}.{place}.conv"
            modules[f"blocks.{number}.{branch}.norm"] = f"{theirs}.{place}.bn"
    return {"torchvision": Table(modules, classifier="fc", left=(r"aux[12]\..*",))}


NETWORKS = {
    "googlenet": Variant(
        GoogLeNet,
        tables=tables,
        imagenet="fetch torchvision's googlenet-1378be20.pth and set model.weights=FILE",
    )
}
