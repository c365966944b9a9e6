"""What the families share: convolution with batch norm, pooling."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.models.convolution import convolution
from cdml_jax.models.spec import Convention, Spec


class BatchNorm(nnx.BatchNorm):
    """Batch norm as one product and one sum: x a + (bias - mean a), a = scale / sqrt(variance + epsilon).

    `nnx.BatchNorm` takes the mean off first. The backward pass then needs what that gives, so every
    activation is written once more, and kept, in float32. This one needs the convolution's output alone.

    Attributes:
      groups: of neighbouring rows, equally many in each, that have batch statistics of their own; the running
        statistics are means over the groups.
    """

    scale: nnx.Param
    bias: nnx.Param
    groups: int = 1

    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:  # type: ignore[override]
        x = x.astype(self.dtype)
        if use_running_average:
            return self._normalised(x, self.mean[...], self.var[...])
        # A view of the rows: where the groups are those of devices, no row changes device.
        apart = self.groups > 1
        rows = x.reshape(self.groups, x.shape[0] // self.groups, *x.shape[1:]) if apart else x
        moments = jax.vmap(_moments)(rows) if apart else _moments(rows)
        for running, found in zip((self.mean, self.var), moments):
            found = found.mean(axis=0) if apart else found
            running[...] = self.momentum * running[...] + (1 - self.momentum) * found
        normalise = jax.vmap(self._normalised) if apart else self._normalised
        return normalise(rows, *moments).reshape(x.shape)

    def _normalised(self, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        factor = self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)
        return x * factor + (self.bias[...] - mean * factor)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of each feature."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return mean, jnp.maximum(jnp.square(x).mean(axes) - jnp.square(mean), 0)


def conv(
    inputs: int,
    outputs: int,
    size: int,
    *,
    spec: Spec,
    rngs: nnx.Rngs,
    stride: int = 1,
    padding: str | tuple[tuple[int, int], ...] = "SAME",
    groups: int = 1,
    use_bias: bool = False,
) -> nnx.Conv:
    """A size x size convolution, He-initialised, in the form that is fastest on each platform."""
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=padding,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
        dtype=spec.dtype,
        param_dtype=spec.param_dtype,
        conv_general_dilated=convolution,
        rngs=rngs,
    )


def batch_norm(features: int, *, epsilon: float, spec: Spec, rngs: nnx.Rngs, scale: float = 1.0) -> BatchNorm:
    """`BatchNorm` whose scale starts at `scale`, in float32 or wider: bfloat16 would round its statistics."""
    norm = BatchNorm(
        features,
        momentum=0.9,
        epsilon=epsilon,
        scale_init=nnx.initializers.constant(scale),
        dtype=spec.param_dtype,
        param_dtype=spec.param_dtype,
        rngs=rngs,
    )
    norm.groups = spec.batch_norm_groups
    return norm


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
        spec: Spec,
        convention: Convention,
        rngs: nnx.Rngs,
        stride: int = 1,
        groups: int = 1,
        use_bias: bool = False,
        scale: float = 1.0,
        activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu,
    ):
        around = (size - 1) // 2
        symmetric = ((around, around), (around, around))
        self.conv = conv(
            inputs,
            outputs,
            size,
            stride=stride,
            padding="SAME" if convention.padding == "SAME" else symmetric,
            groups=groups,
            use_bias=use_bias,
            spec=spec,
            rngs=rngs,
        )
        self.norm = batch_norm(outputs, epsilon=convention.epsilon, scale=scale, spec=spec, rngs=rngs)
        self.activation = activation
        self.dtype, self.frozen = spec.dtype, spec.freeze_batch_norm

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
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))


def adaptive_mean_pool(x: jax.Array, size: int) -> jax.Array:
    """Means over size x size windows that cover the image, as PyTorch's `AdaptiveAvgPool2d` lays them.

    >>> adaptive_mean_pool(jnp.arange(3.0).reshape(1, 3, 1, 1), 2)[0, :, 0, 0].tolist()
    [0.5, 1.5]
    """

    def shares(length: int) -> jax.Array:
        matrix = np.zeros((size, length))
        for row in range(size):
            begin, end = row * length // size, -(-(row + 1) * length // size)
            matrix[row, begin:end] = 1 / (end - begin)
        return jnp.asarray(matrix, jnp.promote_types(x.dtype, jnp.float32))

    rows, columns = shares(x.shape[1]), shares(x.shape[2])
    pooled = jnp.einsum("ph,bhwc,qw->bpqc", rows, x.astype(rows.dtype), columns, precision="highest")
    return pooled.astype(x.dtype)
