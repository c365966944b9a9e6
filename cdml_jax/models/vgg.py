"""VGG-16 and VGG-19 (K. Simonyan and A. Zisserman, ICLR 2015), plain and with batch norm, without dropout."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import nnx

from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import ConvNorm, adaptive_mean_pool, conv, max_pool
from cdml_jax.models.maps import FeatureMaps
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.pixels import scale_input
from cdml_jax.models.spec import TORCHVISION, Spec
from cdml_jax.models.weights.conversion import Table

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions of a stage
GRID, FEATURES = 7, 4096


class Stage(nnx.Module):
    """Some 3 x 3 convolutions of one width, then a pooling by 2."""

    def __init__(self, inputs: int, width: int, number: int, conv_norm: Callable[..., ConvNorm]):
        self.convolutions = nnx.List(
            [conv_norm(width if index else inputs, width, 3, use_bias=True) for index in range(number)]
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return max_pool(self.convolved(x, len(self.convolutions), train=train), 2, 2)

    def convolved(self, x: jax.Array, number: int, *, train: bool) -> jax.Array:
        """What the first convolutions give."""
        for convolution in list(self.convolutions)[:number]:
            x = convolution(x, train=train)
        return x


class PlainStage(nnx.Module):
    """A pooling by 2, but for the first stage, then some 3 x 3 convolutions of one width with a ReLU each."""

    def __init__(self, inputs: int, width: int, number: int, *, first: bool, spec: Spec, rngs: nnx.Rngs):
        sizes = [width if index else inputs for index in range(number)]
        around = ((1, 1), (1, 1))
        self.convolutions = nnx.List(
            [conv(size, width, 3, padding=around, use_bias=True, spec=spec, rngs=rngs) for size in sizes]
        )
        self.first = first

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self.convolved(x, len(self.convolutions))

    def convolved(self, x: jax.Array, number: int) -> jax.Array:
        """What the first convolutions give."""
        x = x if self.first else max_pool(x, 2, 2)
        for convolution in list(self.convolutions)[:number]:
            x = jax.nn.relu(convolution(x))
        return x


class VGG(Network):
    """Five stages, mean pooling to 7 x 7, two dense layers, two heads; 4096 features."""

    options: ClassVar[tuple[str, ...]] = ("freeze_batch_norm", "remat")
    entry_names = ()
    pool_names = ("dense1", "dense2")

    def __init__(self, spec: Spec, *, depth: int, rngs: nnx.Rngs):
        super().__init__(spec)
        self.blocks = nnx.List(self.stages(spec, depth, rngs))
        # The first dense layer as a convolution over the whole 7 x 7 map: its weights keep their geometry.
        common: dict[str, Any] = {"dtype": spec.dtype, "param_dtype": spec.param_dtype, "rngs": rngs}
        self.dense1 = nnx.Conv(WIDTHS[-1], FEATURES, (GRID, GRID), padding="VALID", **common)
        self.dense2 = nnx.Linear(FEATURES, FEATURES, **common)
        self.heads = Heads(FEATURES, spec, rngs=rngs)

    def stages(self, spec: Spec, depth: int, rngs: nnx.Rngs) -> list[nnx.Module]:
        """The blocks."""
        conv_norm = functools.partial(ConvNorm, spec=spec, convention=TORCHVISION, rngs=rngs)
        sizes = zip((3, *WIDTHS[:-1]), WIDTHS, DEPTHS[depth])
        return [Stage(inputs, width, number, conv_norm) for inputs, width, number in sizes]

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        return scale_input(images, TORCHVISION).astype(self.dtype)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = jax.nn.relu(self.dense1(adaptive_mean_pool(x, GRID)))
        return jax.nn.relu(self.dense2(x[:, 0, 0]))

    @property
    def map_channels(self) -> int:
        return WIDTHS[-1]

    def before_coarser(self, number: int, x: jax.Array) -> jax.Array:
        stage = self.blocks[number]  # relu5_2 of VGG-16, of 512 channels as the last map, which is pool5
        return stage.convolved(x, len(stage.convolutions) - 1, train=False)


class PlainVGG(VGG):
    """The same without batch norm; a part takes the map before the last pooling."""

    options = ("remat",)

    def stages(self, spec: Spec, depth: int, rngs: nnx.Rngs) -> list[nnx.Module]:
        """The blocks; each begins with the pooling that ends one of `VGG`."""
        sizes = enumerate(zip((3, *WIDTHS[:-1]), WIDTHS, DEPTHS[depth]))
        return [PlainStage(*size, first=not place, spec=spec, rngs=rngs) for place, size in sizes]

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return super().pool(max_pool(x, 2, 2), train=train)

    def feature_maps(self, images: jax.Array) -> FeatureMaps:
        """pool5, which the network pools to 7 x 7, and relu5_2 of VGG-16, as with batch norm."""
        through = self._through(list(self.blocks)[:-1], self.enter(images, train=False), train=False)
        stage = self.blocks[-1]
        last = max_pool(stage(through[-1], train=False), 2, 2)
        return FeatureMaps(last, stage.convolved(through[-1], len(stage.convolutions) - 1))


def tables(depth: int, *, plain: bool) -> dict[str, Table]:
    """Names of torchvision's and timm's `vgg16` and `vgg19` or, where they are not plain, `vgg16_bn` …"""
    modules, place = {}, 0
    for stage, number in enumerate(DEPTHS[depth]):
        for index in range(number):
            ours = f"blocks.{stage}.convolutions.{index}"
            if plain:
                modules[ours] = f"features.{place}"
            else:
                modules |= {f"{ours}.conv": f"features.{place}", f"{ours}.norm": f"features.{place + 1}"}
            place += 2 if plain else 3  # convolution, norm, activation
        place += 1  # pooling
    torchvision = modules | {"dense1": "classifier.0", "dense2": "classifier.3"}
    timm = modules | {"dense1": "pre_logits.fc1", "dense2": "pre_logits.fc2"}
    return {
        "torchvision": Table(torchvision, classifier="classifier.6"),
        "timm": Table(timm, classifier="head.fc"),
    }


def _variant(depth: int, *, plain: bool) -> Variant:
    name = f"vgg{depth}" if plain else f"vgg{depth}_bn"
    names = functools.partial(tables, depth, plain=plain)
    family = PlainVGG if plain else VGG
    return Variant(family, {"depth": depth}, names, imagenet=f"hf:timm/{name}.tv_in1k")


NETWORKS = {f"vgg{depth}": _variant(depth, plain=True) for depth in DEPTHS} | {
    f"vgg{depth}_bn": _variant(depth, plain=False) for depth in DEPTHS
}
