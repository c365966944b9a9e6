"""Batch norm of a 1 x 1 convolution without its result, which a TPU takes longer to write than to compute.

The convolution is a product y = x W of pixels with K channels. Mean and variance of y follow from those of x:

    mean(y) = mean(x) W,   variance(y_j) = W_jᵀ C W_j,   C = covariance of x, (K, K)

so they are known before y is, and each y is normalised as it is made and never kept. The gradients need no y
either: sums of it with anything are products of W with sums of x. With more outputs than inputs, x is the
smaller of the two.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_HIGHEST = jax.lax.Precision.HIGHEST  # of the small products, which a TPU would compute in bfloat16
_ONES = 8  # columns: one would be computed as a sum, which takes ten times the cycles of a product


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def norm_of_product(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "inputs outputs"],
    scale: Float[Array, " outputs"],
    bias: Float[Array, " outputs"],
    epsilon: float,
) -> tuple[Float[Array, "batch height width outputs"], Float[Array, " outputs"], Float[Array, " outputs"]]:
    """`x @ kernel` normalised over all pixels of the batch; and its mean and variance, without gradients.

    Args:
      x: in the type of the activations, in which the products are computed; sums are float32 or wider.
      kernel: rounded to that type.
      scale, bias: of the norm.
      epsilon: is added to the variance.
    """
    return _forward(x, kernel, scale, bias, epsilon)[0]


def _wide(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _over_pixels(x: jax.Array, y: jax.Array) -> jax.Array:
    """xᵀ y: (batch, height, width, K) and (batch, height, width, N) to (K, N)."""
    pixels = (0, 1, 2)
    return jax.lax.dot_general(x, y, ((pixels, pixels), ((), ())), preferred_element_type=_wide(x))


def _times(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Each pixel times a matrix, in the type of `x`, summed and given in a wide one."""
    return jax.lax.conv_general_dilated(
        x,
        matrix.astype(x.dtype)[None, None],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=_wide(x),
    )


_product = functools.partial(jnp.matmul, precision=_HIGHEST)


def _forward(x, kernel, scale, bias, epsilon):
    matrix = kernel.astype(x.dtype).astype(_wide(x))
    pixels = x.size // x.shape[-1]
    mean_x = _over_pixels(jnp.ones((*x.shape[:3], _ONES), x.dtype), x)[0] / pixels
    covariance = _over_pixels(x, x) / pixels - mean_x[:, None] * mean_x  # (K, K)
    mean = _product(mean_x, matrix)
    variance = jnp.maximum((matrix * _product(covariance, matrix)).sum(0), 0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    factor = scale * inverse
    y = (_times(x, matrix) * factor + (bias - mean * factor)).astype(x.dtype)
    return (y, mean, variance), (x, matrix, mean_x, covariance, mean, variance, inverse, scale)


def _backward(epsilon, residuals, gradients):
    # With g the gradient of what is given, that of x W is  factor · g − pull · (x W − mean) − push.  Its sum
    # with x over the pixels follows from that of g with x, and from the covariance.
    del epsilon
    x, matrix, mean_x, covariance, mean, variance, inverse, scale = residuals
    g = gradients[0]
    pixels, factor = x.size // x.shape[-1], scale * inverse
    with_x = _over_pixels(x, g)  # (K, N)
    to_bias = g.astype(_wide(x)).sum((0, 1, 2))
    to_scale = inverse * ((matrix * with_x).sum(0) - mean * to_bias)
    pull = jnp.where(variance > 0, factor * inverse * to_scale / pixels, 0)
    push = factor * to_bias / pixels
    to_kernel = (
        with_x * factor - pixels * pull * _product(covariance, matrix) - mean_x[:, None] * (pixels * push)
    )
    pulled = _product(matrix * pull, matrix.T)  # (K, K)
    # Rounded in between, for half of what is written; what is left to subtract is small.
    straight = _times(g, (matrix * factor).T).astype(x.dtype).astype(_wide(x))
    to_x = straight - _times(x, pulled) + (_product(mean_x, pulled) - _product(matrix, push))
    return to_x.astype(x.dtype), to_kernel.astype(scale.dtype), to_scale, to_bias


norm_of_product.defvjp(_forward, _backward)
