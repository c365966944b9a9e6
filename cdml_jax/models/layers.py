"""What the families share: convolution with batch norm, pooling, scaling of the input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.models.convolution import convolution
from cdml_jax.models.heads import wide

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of RGB in [0, 1]
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # leaves [-1, 1] as it is


@dataclasses.dataclass(frozen=True)
class Convention:
    """How one source of weights computes: it is no part of the weights, so the network must be told.

    Attributes:
      padding: `"symmetric"`, (size - 1) / 2 zeros on both sides as in PyTorch, or `"SAME"` as in TensorFlow.
      epsilon: of batch norm.
      mean, std: of RGB in [0, 1], taken off and divided by.
    """

    padding: str
    epsilon: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


TORCHVISION = Convention("symmetric", 1e-5, *IMAGENET)
TENSORFLOW = Convention("SAME", 1e-3, *HALF)
STYLES = {"torchvision": TORCHVISION, "tensorflow": TENSORFLOW}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all layers of a network share.

    Attributes:
      convention: padding, epsilon and input.
      dtype: of the activations.
      freeze_batch_norm: whether batch norm uses its running statistics, unchanged, in training too.
    """

    convention: Convention
    dtype: Any
    freeze_batch_norm: bool = False


def scale_input(images: jax.Array, convention: Convention) -> jax.Array:
    """Images in [-1, 1] as the convention wants them: (x / 2 + 1/2 - mean) / std by channel."""
    scale = [0.5 / std for std in convention.std]
    shift = [(0.5 - mean) / std for mean, std in zip(convention.mean, convention.std)]
    return images * jnp.asarray(scale, images.dtype) + jnp.asarray(shift, images.dtype)


class BatchNorm(nnx.BatchNorm):
    """Batch norm as one product and one sum: x a + (bias - mean a), a = scale / sqrt(variance + epsilon).

    `nnx.BatchNorm` takes the mean off first. The backward pass then needs what that gives, so every
    activation is written once more, and kept, in float32. This one needs the convolution's output alone.
    """

    scale: nnx.Param
    bias: nnx.Param

    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:  # type: ignore[override]
        x = x.astype(self.dtype)
        if use_running_average:
            mean, variance = self.mean[...], self.var[...]
        else:
            axes = tuple(range(x.ndim - 1))
            mean = x.mean(axes)
            variance = jnp.maximum(jnp.square(x).mean(axes) - jnp.square(mean), 0)
            for running, found in ((self.mean, mean), (self.var, variance)):
                running[...] = self.momentum * running[...] + (1 - self.momentum) * found
        factor = self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)
        return x * factor + (self.bias[...] - mean * factor)


class ConvNorm(nnx.Module):
    """Convolution, batch norm, activation; by default no bias, for the norm has one.

    `scale` is the norm's first one: 0 at the end of a residual branch lets its block start as identity.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        settings: Settings,
        rngs: nnx.Rngs,
        stride: int = 1,
        groups: int = 1,
        use_bias: bool = False,
        scale: float = 1.0,
        activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu,
    ):
        around = (size - 1) // 2
        same = settings.convention.padding == "SAME"
        parameters = wide(settings.dtype)
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (size, size),
            strides=stride,
            padding="SAME" if same else ((around, around), (around, around)),
            feature_group_count=groups,
            use_bias=use_bias,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
            dtype=settings.dtype,
            param_dtype=parameters,
            conv_general_dilated=convolution,
            rngs=rngs,
        )
        # float32 for bfloat16 activations: in bfloat16 the running statistics would be rounded.
        self.norm = BatchNorm(
            outputs,
            momentum=0.9,
            epsilon=settings.convention.epsilon,
            scale_init=nnx.initializers.constant(scale),
            dtype=parameters,
            param_dtype=parameters,
            rngs=rngs,
        )
        self.activation = activation
        self.dtype, self.frozen = settings.dtype, settings.freeze_batch_norm

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.norm(self.conv(x), use_running_average=self.frozen or not train)
        return (x if self.activation is None else self.activation(x)).astype(self.dtype)


def max_pool(x: jax.Array, size: int, stride: int, *, padding: int = 0, ceil: bool = False) -> jax.Array:
    """Maximum over windows as PyTorch's `MaxPool2d` computes it, with its `ceil_mode`."""

    def around(length: int) -> tuple[int, int]:
        windows = -(-(length + 2 * padding - size) // stride) + 1
        if (windows - 1) * stride >= length + padding:  # a window that begins beyond the image is left out
            windows -= 1
        return padding, max(padding, (windows - 1) * stride + size - length - padding)

    pads = tuple(around(n) for n in x.shape[1:3]) if ceil else ((padding, padding),) * 2
    return nnx.max_pool(x, (size, size), strides=(stride, stride), padding=pads)


def mean_pool(x: jax.Array) -> jax.Array:
    """Mean over the image, (batch, height, width, channels) -> (batch, channels), in float32 or wider."""
    return x.astype(wide(x.dtype)).mean((1, 2))
