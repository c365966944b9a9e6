"""ResNet-18, 34, 50 and 101 (K. He et al., CVPR 2016), stride in the 3 x 3 convolution as in torchvision."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from flax import nnx

from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import ConvNorm, mean_pool
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.pixels import scale_input
from cdml_jax.models.spec import TORCHVISION, Spec
from cdml_jax.models.weights.conversion import Table

WIDTHS = (64, 128, 256, 512)
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BOTTLENECK_FROM = 50  # layers; such networks have blocks of three convolutions, the last four times as wide


class Block(nnx.Module):
    """Two 3 x 3 convolutions, or 1 x 1, 3 x 3 and 1 x 1, around a shortcut."""

    def __init__(
        self, inputs: int, width: int, stride: int, bottleneck: bool, conv_norm: Callable[..., ConvNorm]
    ):
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            convolutions = [
                conv_norm(inputs, width, 1),
                conv_norm(width, width, 3, stride=stride),
                conv_norm(width, outputs, 1, scale=0.0, activation=None),
            ]
        else:
            convolutions = [
                conv_norm(inputs, width, 3, stride=stride),
                conv_norm(width, outputs, 3, scale=0.0, activation=None),
            ]
        self.convolutions = nnx.List(convolutions)
        self.shortcut = (
            conv_norm(inputs, outputs, 1, stride=stride, activation=None)
            if stride != 1 or inputs != outputs
            else None
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = x
        for convolution in self.convolutions:
            y = convolution(y, train=train)
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x, train=train)))


class ResNet(Network):
    """Stem, four stages of residual blocks, mean pooling, two heads; 512 or 2048 features."""

    options = ("freeze_batch_norm", "remat")

    def __init__(self, spec: Spec, *, depth: int, rngs: nnx.Rngs):
        super().__init__(spec)
        conv_norm = functools.partial(ConvNorm, spec=spec, convention=TORCHVISION, rngs=rngs)
        self.stem = conv_norm(3, WIDTHS[0], 7, stride=2)
        bottleneck = depth >= BOTTLENECK_FROM
        blocks, inputs = [], WIDTHS[0]
        for stage, (width, number) in enumerate(zip(WIDTHS, DEPTHS[depth])):
            for index in range(number):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(inputs, width, stride, bottleneck, conv_norm))
                inputs = 4 * width if bottleneck else width
        self.blocks = nnx.List(blocks)
        self.heads = Heads(inputs, spec, rngs=rngs)

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = scale_input(images, TORCHVISION).astype(self.dtype)
        return self.stem.pooled(x, train=train)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return mean_pool(x)


def tables(depth: int) -> dict[str, Table]:
    """Names of torchvision's `resnet…`, which timm's share."""
    modules = {"stem.conv": "conv1", "stem.norm": "bn1"}
    number = 0
    for stage, repeats in enumerate(DEPTHS[depth], 1):
        for index in range(repeats):
            ours, theirs = f"blocks.{number}", f"layer{stage}.{index}"
            for place in range(3 if depth >= BOTTLENECK_FROM else 2):
                modules[f"{ours}.convolutions.{place}.conv"] = f"{theirs}.conv{place + 1}"
                modules[f"{ours}.convolutions.{place}.norm"] = f"{theirs}.bn{place + 1}"
            modules[f"{ours}.shortcut.conv"] = f"{theirs}.downsample.0"
            modules[f"{ours}.shortcut.norm"] = f"{theirs}.downsample.1"
            number += 1
    return {"torchvision": Table(modules, classifier="fc")}


NETWORKS = {
    f"resnet{depth}": Variant(
        ResNet,
        {"depth": depth},
        functools.partial(tables, depth),
        imagenet=f"hf:timm/resnet{depth}.tv_in1k",
    )
    for depth in DEPTHS
}
