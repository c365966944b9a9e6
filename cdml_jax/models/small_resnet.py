"""A residual network of 0.3 million parameters for images of 48 to 96 pixels: the demo's."""

from __future__ import annotations

import functools

import jax
from flax import nnx

from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import batch_norm, conv, mean_pool
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.spec import Spec

WIDTHS = (16, 32, 64, 128)
EPSILON = 1e-5


class Block(nnx.Module):
    """Two 3 x 3 convolutions and a shortcut; the second norm starts at 0, so the block starts as identity."""

    def __init__(self, inputs: int, outputs: int, stride: int, spec: Spec, rngs: nnx.Rngs):
        self.dtype = spec.dtype
        norm = functools.partial(batch_norm, outputs, epsilon=EPSILON, spec=spec, rngs=rngs)
        self.conv1 = conv(inputs, outputs, 3, stride=stride, spec=spec, rngs=rngs)
        self.norm1 = norm()
        self.conv2 = conv(outputs, outputs, 3, spec=spec, rngs=rngs)
        self.norm2 = norm(scale=0.0)
        change = stride != 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, 1, stride=stride, spec=spec, rngs=rngs) if change else None
        self.shortcut_norm = norm() if change else None

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = jax.nn.relu(self.norm1(self.conv1(x), use_running_average=not train)).astype(self.dtype)
        y = self.norm2(self.conv2(y), use_running_average=not train)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x), use_running_average=not train)
        return jax.nn.relu(x + y).astype(self.dtype)


class SmallResNet(Network):
    """2 x 2 pixels folded into channels, a stem, four residual blocks, mean pooling, two heads."""

    options = ("freeze_batch_norm",)
    entry_names = ("stem", "stem_norm")

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(spec)
        self.stem = conv(12, WIDTHS[0], 3, spec=spec, rngs=rngs)
        self.stem_norm = batch_norm(WIDTHS[0], epsilon=EPSILON, spec=spec, rngs=rngs)
        inputs = (WIDTHS[0], *WIDTHS[:-1])
        self.blocks = nnx.List(
            [Block(i, o, 1 if k == 0 else 2, spec, rngs) for k, (i, o) in enumerate(zip(inputs, WIDTHS))]
        )
        self.heads = Heads(WIDTHS[-1], spec, rngs=rngs)

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        batch, height, width, channels = images.shape
        if height % 2 or width % 2:
            raise ValueError(f"small_resnet takes images of even height and width, not {height} x {width}")
        x = images.reshape(batch, height // 2, 2, width // 2, 2, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)
        x = self.stem_norm(self.stem(x.astype(self.dtype)), use_running_average=not train)
        return jax.nn.relu(x).astype(self.dtype)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return mean_pool(x.astype(self.dtype))


NETWORKS = {"small_resnet": Variant(SmallResNet, imagenet="choose another model.name")}
