"""A residual network of 0.3 million parameters for images of 48 to 96 pixels: the demo's."""

from __future__ import annotations

import jax
from flax import nnx

from cdml_jax.models.convolution import convolution
from cdml_jax.models.heads import Heads, wide
from cdml_jax.models.layers import BatchNorm
from cdml_jax.models.network import Network

WIDTHS = (16, 32, 64, 128)


def _convolution(inputs: int, outputs: int, size: int, stride: int, dtype, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding="SAME",
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
        dtype=dtype,
        param_dtype=wide(dtype),
        conv_general_dilated=convolution,
        rngs=rngs,
    )


def _batch_norm(features: int, dtype, rngs: nnx.Rngs, scale: float = 1.0) -> BatchNorm:
    # float32 or wider whatever the activations are: in bfloat16 the running statistics would be rounded.
    return BatchNorm(
        features,
        momentum=0.9,
        epsilon=1e-5,
        dtype=wide(dtype),
        param_dtype=wide(dtype),
        scale_init=nnx.initializers.constant(scale),
        rngs=rngs,
    )


class Block(nnx.Module):
    """Two 3 x 3 convolutions and a shortcut; the second norm starts at 0, so the block starts as identity."""

    def __init__(self, inputs: int, outputs: int, stride: int, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.conv1 = _convolution(inputs, outputs, 3, stride, dtype, rngs)
        self.norm1 = _batch_norm(outputs, dtype, rngs)
        self.conv2 = _convolution(outputs, outputs, 3, 1, dtype, rngs)
        self.norm2 = _batch_norm(outputs, dtype, rngs, scale=0.0)
        change = stride != 1 or inputs != outputs
        self.shortcut = _convolution(inputs, outputs, 1, stride, dtype, rngs) if change else None
        self.shortcut_norm = _batch_norm(outputs, dtype, rngs) if change else None

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = jax.nn.relu(self.norm1(self.conv1(x), use_running_average=not train)).astype(self.dtype)
        y = self.norm2(self.conv2(y), use_running_average=not train)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x), use_running_average=not train)
        return jax.nn.relu(x + y).astype(self.dtype)


class SmallResNet(Network):
    """2 x 2 pixels folded into channels, a stem, four residual blocks, mean pooling, two heads."""

    entry_names = ("stem", "stem_norm")

    def __init__(
        self,
        *,
        num_classes: int,
        embedding_size: int,
        embedding_from: str,
        dtype,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        self.stem = _convolution(12, WIDTHS[0], 3, 1, dtype, rngs)
        self.stem_norm = _batch_norm(WIDTHS[0], dtype, rngs)
        inputs = (WIDTHS[0], *WIDTHS[:-1])
        self.blocks = nnx.List(
            [Block(i, o, 1 if k == 0 else 2, dtype, rngs) for k, (i, o) in enumerate(zip(inputs, WIDTHS))]
        )
        self.heads = Heads(
            WIDTHS[-1],
            num_classes=num_classes,
            embedding_size=embedding_size,
            embedding_from=embedding_from,
            dtype=dtype,
            rngs=rngs,
        )

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        batch, height, width, channels = images.shape
        if height % 2 or width % 2:
            raise ValueError(f"small_resnet takes images of even height and width, not {height} x {width}")
        x = images.reshape(batch, height // 2, 2, width // 2, 2, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)
        x = self.stem_norm(self.stem(x.astype(self.dtype)), use_running_average=not train)
        return jax.nn.relu(x).astype(self.dtype)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return x.astype(wide(self.dtype)).mean((1, 2))
