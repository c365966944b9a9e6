"""What the families share: convolution with batch norm, pooling."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.models.convolution import convolution
from cdml_jax.models.product_norm import norm_of_product
from cdml_jax.models.spec import Convention, Spec

WIDENING = 2  # outputs over inputs from which `norm_of_product` writes less than it computes more


class BatchNorm(nnx.BatchNorm):
    """Batch norm as one product and one sum: x a + (bias - mean a), a = scale / sqrt(variance + epsilon).

    `nnx.BatchNorm` takes the mean off first. The backward pass then needs what that gives, so every
    activation is written once more, and kept, in float32. This one needs the convolution's output alone.

    Attributes:
      groups: of neighbouring rows, equally many in each, that have batch statistics of their own; the running
        statistics are means over the groups.
      frozen: the running statistics are used, unchanged, in training too.
    """

    scale: nnx.Param
    bias: nnx.Param
    groups: int = 1
    frozen: bool = False

    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:  # type: ignore[override]
        x = x.astype(self.dtype)
        if use_running_average or self.frozen:
            return self._normalised(x, self.mean[...], self.var[...])
        # A view of the rows: where the groups are those of devices, no row changes device.
        apart = self.groups > 1
        rows = x.reshape(self.groups, x.shape[0] // self.groups, *x.shape[1:]) if apart else x
        found = jax.vmap(moments)(rows) if apart else moments(rows)
        self.keep(*((each.mean(axis=0) for each in found) if apart else found))
        normalise = jax.vmap(self._normalised) if apart else self._normalised
        return normalise(rows, *found).reshape(x.shape)

    def _normalised(self, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        factor = self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)
        return x * factor + (self.bias[...] - mean * factor)

    def keep(self, mean: jax.Array, variance: jax.Array) -> None:
        """Add a batch's statistics to the running ones."""
        for running, found in ((self.mean, mean), (self.var, variance)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * found


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
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
    norm.groups, norm.frozen = spec.batch_norm_groups, spec.freeze_batch_norm
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
        self.dtype = spec.dtype
        # A TPU would round products of float32 to bfloat16, and the statistics with them.
        self.for_tpu = (
            spec.platform == "tpu"
            and spec.dtype != "float32"
            and spec.batch_norm_groups == groups == 1
            and not use_bias
            and not spec.freeze_batch_norm
        )
        self.widens = size == stride == 1 and outputs >= WIDENING * inputs

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if self.for_tpu and self.widens and train:
            x = self._of_product(x.astype(self.dtype))
        else:
            x = self.norm(self.conv(x), use_running_average=not train)
        return (x if self.activation is None else self.activation(x)).astype(self.dtype)

    def _of_product(self, x: jax.Array) -> jax.Array:
        kernel, norm = self.conv.kernel[...][0, 0], self.norm
        x, *found = norm_of_product(x, kernel, norm.scale[...], norm.bias[...], norm.epsilon)
        norm.keep(*map(jax.lax.stop_gradient, found))
        return x

    def pooled(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`max_pool` of 3 x 3 places with stride 2 over what `__call__` gives.

        In training on TPUs the maximum is taken first, since norm and activation grow with the convolution
        where the norm's scale is positive; where it is negative, the convolution's sign is changed. They and
        their gradients are then computed for a quarter of the places.
        """
        if not self.for_tpu or not train:
            return max_pool(self(x, train=train), 3, 2, padding=1)
        y, norm, scale = self.conv(x), self.norm, self.norm.scale[...]
        sign = jnp.where(scale < 0, -1, 1).astype(y.dtype)
        y = y * sign
        mean, variance = moments(y.astype(norm.dtype))
        norm.keep(sign * mean, variance)
        # The sign is part of the factor: as a product of its own, it makes a TPU read the map once more.
        factor = sign * scale * jax.lax.rsqrt(variance + norm.epsilon)
        y = max_pool(y, 3, 2, padding=1).astype(factor.dtype) * factor + (norm.bias[...] - mean * factor)
        return (y if self.activation is None else self.activation(y)).astype(self.dtype)


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
