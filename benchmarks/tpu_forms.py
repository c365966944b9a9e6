"""Forms of operations that were tried on TPUs and left out, for tpu_ideas.py."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp

from cdml_jax.models import convolution
from cdml_jax.models.layers import max_pool

_NUMBERS = ("NHWC", "HWIO", "NHWC")


@contextlib.contextmanager
def in_form(form: Callable | None) -> Iterator[None]:
    """Convolutions with a form of their own computed as `form(x, kernel, strides=…, pads=…)` has them."""
    if form is None:
        yield
        return
    own = convolution._grouped
    with mock.patch.object(convolution, "_grouped", functools.partial(form, own)):
        yield


def depthwise(form: Callable) -> Callable:
    """A form of depthwise convolutions alone."""

    def computed(own, x, kernel, *, strides, pads):
        depthwise = kernel.shape[2] == 1 < x.shape[-1]
        return (form if depthwise else own)(x, kernel, strides=strides, pads=pads)

    return computed


def diagonal(x, kernel, *, strides, pads):
    """Depthwise as a whole convolution whose kernel is zero between channels: for the matrix units."""
    channels = x.shape[-1]
    whole = jnp.where(jnp.eye(channels, dtype=bool), kernel, 0)
    return jax.lax.conv_general_dilated(x, whole, strides, pads, dimension_numbers=_NUMBERS)


def as_product(own, x, kernel, *, strides, pads):
    """1 x 1 convolutions as products of two dimensions, as on CPUs."""
    one = kernel.shape[:2] == (1, 1) and kernel.shape[2] == x.shape[-1]
    return (convolution._product if one else own)(x, kernel, strides=strides, pads=pads)


def by_depth(x, kernel, strides, padding, **others):
    """A 7 x 7 convolution of stride 2 as a 4 x 4 one of blocks of 2 x 2 pixels."""
    del others
    if kernel.shape[:2] != (7, 7):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_NUMBERS)
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0))).reshape(4, 2, 4, 2, channels, -1)
    return jax.lax.conv_general_dilated(
        x.reshape(batch, height // 2, width // 2, 4 * channels),
        kernel.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 4 * channels, -1),
        (1, 1),
        ((2, 1), (2, 1)),
        dimension_numbers=_NUMBERS,
    )


def pooled_by_places(x: jax.Array, size: int, stride: int, *, padding: int) -> jax.Array:
    """`max_pool` whose gradient goes to the first largest place, by comparisons, not by a scatter."""

    def shifted(x):
        around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        x = jnp.pad(x, around, constant_values=-jnp.inf)
        sides = [n - size + 1 for n in x.shape[1:3]]
        starts = [(i, j) for i in range(size) for j in range(size)]
        return [x[:, i : i + sides[0] : stride, j : j + sides[1] : stride] for i, j in starts]

    @jax.custom_vjp
    def pool(x):
        return max_pool(x, size, stride, padding=padding)

    def backward(residuals, gradient):
        x, largest = residuals
        free, parts = jnp.ones(largest.shape, bool), []
        for seen in shifted(x):
            here = free & (seen == largest)
            free &= ~here
            parts.append(jnp.where(here, gradient, 0))
        return jax.linear_transpose(shifted, x)(parts)

    pool.defvjp(lambda x: (pool(x), (x, pool(x))), backward)
    return pool(x)
