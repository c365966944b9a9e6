"""MobileNetV2 (M. Sandler et al., CVPR 2018) of width 1.0, and where its weights stand in others' files."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from flax import nnx

from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import ConvNorm, mean_pool
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.pixels import scale_input
from cdml_jax.models.spec import STYLES, Spec
from cdml_jax.models.weights.conversion import Table

# Expansion, output channels, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, FEATURES = 32, 1280


class Block(nnx.Module):
    """Inverted residual: expansion (unless by 1), depthwise convolution, linear projection, shortcut."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        conv_norm: Callable[..., ConvNorm],
        *,
        size: int = 3,
    ):
        hidden = inputs * expansion
        self.expand = conv_norm(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = conv_norm(hidden, hidden, size, stride=stride, groups=hidden)
        self.project = conv_norm(hidden, outputs, 1, activation=None)
        self.shortcut = stride == 1 and inputs == outputs

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = x if self.expand is None else self.expand(x, train=train)
        y = self.project(self.depthwise(y, train=train), train=train)
        return x + y if self.shortcut else y


class MobileNetV2(Network):
    """Stem, 17 inverted residual blocks, a last 1 x 1 convolution, mean pooling, two heads; 1280 features.

    Its own style is `"torchvision"`, which timm shares.
    """

    options = ("style", "freeze_batch_norm", "remat")

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(spec)
        self.convention = STYLES[spec.style or "torchvision"]
        conv_norm = functools.partial(
            ConvNorm, spec=spec, convention=self.convention, activation=jax.nn.relu6, rngs=rngs
        )
        self.stem = conv_norm(3, STEM, 3, stride=2)
        blocks, inputs = [], STEM
        for expansion, outputs, number, stride in STAGES:
            for index in range(number):
                blocks.append(Block(inputs, outputs, stride if index == 0 else 1, expansion, conv_norm))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.last = conv_norm(inputs, FEATURES, 1)
        self.heads = Heads(FEATURES, spec, rngs=rngs)

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = scale_input(images, self.convention).astype(self.dtype)
        return self.stem(x, train=train)

    def finish(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self.last(x, train=train)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return mean_pool(x)

    def before_coarser(self, number: int, x: jax.Array) -> jax.Array:
        return self.blocks[number].expand(x, train=False)  # what blocks give has no activation


def tables() -> dict[str, Table]:
    """Names of torchvision's `mobilenet_v2` and of timm's `mobilenetv2_100`."""
    torchvision = {"stem.conv": "features.0.0", "stem.norm": "features.0.1"}
    timm = {"stem.conv": "conv_stem", "stem.norm": "bn1", "last.conv": "conv_head", "last.norm": "bn2"}
    number = 0
    for stage, (expansion, _, repeats, _) in enumerate(STAGES):
        for index in range(repeats):
            parts = ("depthwise", "project") if expansion == 1 else ("expand", "depthwise", "project")
            timm_parts = ("dw", "pw") if expansion == 1 else ("pw", "dw", "pwl")
            theirs = f"features.{number + 1}.conv"
            for place, (part, timm_part) in enumerate(zip(parts, timm_parts)):
                ours, linear = f"blocks.{number}.{part}", part == "project"
                torchvision[f"{ours}.conv"] = f"{theirs}.{place}" if linear else f"{theirs}.{place}.0"
                torchvision[f"{ours}.norm"] = f"{theirs}.{place + 1}" if linear else f"{theirs}.{place}.1"
                timm[f"{ours}.conv"] = f"blocks.{stage}.{index}.conv_{timm_part}"
                timm[f"{ours}.norm"] = f"blocks.{stage}.{index}.bn{place + 1}"
            number += 1
    torchvision |= {"last.conv": f"features.{number + 1}.0", "last.norm": f"features.{number + 1}.1"}
    return {
        "torchvision": Table(torchvision, classifier="classifier.1"),
        "timm": Table(timm, classifier="classifier"),
    }


NETWORKS = {"mobilenet_v2": Variant(MobileNetV2, tables=tables, imagenet="hf:timm/mobilenetv2_100.ra_in1k")}
