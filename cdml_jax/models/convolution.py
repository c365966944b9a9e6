"""Convolution in the form that each platform computes fastest: on CPUs XLA's own can be ten times slower.

Measured with JAX 0.10.2 on an AMD EPYC with AVX-512: by 1 x 1 and depthwise convolutions MobileNetV2's step
fell from 31.6 ms an image to 17.4 (docs/performance.md, "Changes to the step"). On an H100 with JAX 0.11.2
EfficientNet-Lite0's step with XLA's depthwise convolutions was not compiled after 110 s; with those below it
takes 14.3 ms of 64 images of 144 pixels. Measure again, by benchmarks/training_step.py, when JAX is raised:
once XLA is as fast, this file can go.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Pads = tuple[tuple[int, int], ...]


def convolution(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs_per_group outputs"],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    feature_group_count: int = 1,
    **others: Any,
) -> Float[Array, "batch new_height new_width outputs"]:
    """`jax.lax.conv_general_dilated` as `nnx.Conv` calls it, of images whose channels come last.

    On a CPU a 1 x 1 kernel is one matrix product; a kernel for each channel is, on CPUs and on CUDA's GPUs, a
    sum of shifted images, one for each place of the kernel, which XLA fuses; few channels are convolved two
    columns at a time on a CPU. Other kernels and other platforms have XLA's convolution.
    """
    dilations = (others.get(key) or () for key in ("lhs_dilation", "rhs_dilation"))
    if all(step == 1 for dilation in dilations for step in dilation):
        if isinstance(padding, str):
            padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
        pads: Pads = tuple((int(a), int(b)) for a, b in padding)
        forms = _forms(x, kernel, strides, pads, feature_group_count)
        if forms is not None:
            return _convolve(x, kernel, forms, tuple(strides), pads)
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, feature_group_count=feature_group_count, **others
    )


class Forms(NamedTuple):
    """The function that computes a convolution on each platform."""

    cpu: Callable
    cuda: Callable


def _forms(x: jax.Array, kernel: jax.Array, strides: Sequence[int], pads: Pads, groups: int) -> Forms | None:
    """What computes this convolution faster than XLA's own, if anything does."""
    channels, outputs = x.shape[-1], kernel.shape[-1]
    if kernel.shape == (1, 1, channels, outputs):
        return Forms(_product, _grouped)
    if groups == channels == outputs > 1:
        return Forms(
            functools.partial(_shifted, in_pieces=True), functools.partial(_shifted, in_pieces=False)
        )
    width = x.shape[2] + sum(pads[1]) - kernel.shape[1] + 1
    few = max(channels, outputs) <= FEW_CHANNELS and groups == 1 == max(strides)
    paired = few and x.shape[2] % 2 == width % 2 == 0 and x.dtype == jnp.float32
    return Forms(_paired, _grouped) if paired else None


# The gradient is taken inside each platform's branch: through the choice it would keep residuals of both.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    x: jax.Array, kernel: jax.Array, forms: Forms, strides: tuple[int, ...], pads: Pads
) -> jax.Array:
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(forms.cpu, strides=strides, pads=pads),
        cuda=functools.partial(forms.cuda, strides=strides, pads=pads),
        default=functools.partial(_grouped, strides=strides, pads=pads),
    )


def _forward(x, kernel, forms, strides, pads):
    return _convolve(x, kernel, forms, strides, pads), (x, kernel)


def _backward(forms, strides, pads, residuals, gradient):
    def through(function, x, kernel, gradient):
        function = functools.partial(function, strides=strides, pads=pads)
        return jax.vjp(function, x, kernel)[1](gradient)

    return jax.lax.platform_dependent(
        *residuals,
        gradient,
        cpu=functools.partial(through, forms.cpu),
        cuda=functools.partial(through, forms.cuda),
        default=functools.partial(through, _grouped),
    )


_convolve.defvjp(_forward, _backward)


def _grouped(x: jax.Array, kernel: jax.Array, *, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


def _product(x: jax.Array, kernel: jax.Array, *, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))[:, :: strides[0], :: strides[1]]
    # Two dimensions: of more, XLA's gradient with respect to the kernel copies the images transposed.
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)


FEW_CHANNELS = 16  # in and out: XLA keeps such convolutions from the library that computes the others


def _by_columns(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Two neighbouring columns as one of twice the outputs, from a kernel one column wider, half of it zero.

    That is a third more operations for a kernel of three columns, and XLA's library for them: 1.3 to 2 times
    as fast.
    """
    first, second = (jnp.pad(kernel, ((0, 0), around, (0, 0), (0, 0))) for around in ((0, 1), (1, 0)))
    pairs = _grouped(x, jnp.concatenate([first, second], axis=-1), strides=(1, 2), pads=pads)
    return pairs.reshape(*pairs.shape[:2], -1, kernel.shape[-1])


_convolve_by_columns = jax.custom_vjp(_by_columns, nondiff_argnums=(2,))


def _by_columns_forward(x, kernel, pads):
    return _by_columns(x, kernel, pads), (x, kernel)


def _by_columns_backward(pads, residuals, gradient):
    x, kernel = residuals
    around = tuple(
        (size - 1 - before, size - 1 - behind) for size, (before, behind) in zip(kernel.shape, pads)
    )
    to_images = _by_columns(gradient, kernel[::-1, ::-1].swapaxes(2, 3), around)
    (to_kernel,) = jax.linear_transpose(
        lambda kernel: _grouped(x, kernel, strides=(1, 1), pads=pads), kernel
    )(gradient)
    return to_images, to_kernel


_convolve_by_columns.defvjp(_by_columns_forward, _by_columns_backward)


def _paired(x: jax.Array, kernel: jax.Array, *, strides: tuple[int, ...], pads: Pads) -> jax.Array:
    return _convolve_by_columns(x, kernel, pads)


def _sum_of_shifted(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    size: tuple[int, ...],
    in_pieces: bool = True,
):
    """Depthwise convolution of padded images: of each place of the kernel, the image that it sees, weighted.

    x is (batch, height, width, channels), kernel (rows, columns, 1, channels), and `size` the output's height
    and width. `in_pieces` says how the gradient of the kernel is added up.
    """
    total = jnp.zeros((), x.dtype)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            total = total + _seen(x, i, j, strides, size) * kernel[i, j, 0]
    return total


def _seen(x, i, j, strides, size):
    """What place (i, j) of the kernel sees of x, for each place of the output: (batch, *size, channels)."""
    (down, right), (height, width) = strides, size
    return x[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * right + 1 : right]


_add_shifted = jax.custom_vjp(_sum_of_shifted, nondiff_argnums=(2, 3, 4))


def _add_shifted_forward(x, kernel, strides, size, in_pieces):
    return _sum_of_shifted(x, kernel, strides, size), (x, kernel)


def _add_shifted_backward(strides, size, in_pieces, residuals, gradient):
    # x (batch, height, width, channels), kernel (rows, columns, 1, channels), gradient of the outputs.
    x, kernel = residuals
    # The gradient is spread out once. JAX would derive a sum of padded gradients, one for each place of the
    # kernel, and XLA would compute the gradient of the outputs again in each of them.
    spread = [(0, 0, 0)]  # of each dimension: zeros before, behind, and between
    for whole, part, stride, places in zip(x.shape[1:3], kernel.shape[:2], strides, size):
        spread.append((part - 1, whole - (places - 1) * stride - 1, stride - 1))
    # (batch, height + rows - 1, width + columns - 1, channels): place p of x takes kernel place i times the
    # gradient of output (p - i) / stride, and the mirrored kernel over `padded` meets just those.
    padded = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [*spread, (0, 0, 0)])
    to_images = _sum_of_shifted(padded, kernel[::-1, ::-1], (1, 1), x.shape[1:3])
    of_kernel = _kernel_gradient if in_pieces else _kernel_gradient_at_once
    return to_images, of_kernel(x, gradient, kernel.shape, strides)


_add_shifted.defvjp(_add_shifted_forward, _add_shifted_backward)

# Rows of the gradient in one turn of the loop below: measured; what a turn holds stays in the CPU's cache.
ROWS_AT_ONCE = 4


def _kernel_gradient(x, gradient, shape, strides):
    """Gradient of the kernel, a few rows of all images at a time, and all its places in one reduction.

    A reduction for each place would write every product to memory; without a loop XLA would compute the
    gradient of the outputs again inside the reduction. The batch is added up last, outside the loop, so that
    a batch that is split over devices costs one message.

    Args:
      x: padded images (batch, …, …, channels).
      gradient: of the outputs, (batch, height, width, channels).
      shape: of the kernel, (rows, columns, 1, channels).
      strides: down and right.
    """
    rows, columns, _, channels = shape
    batch, height, width, _ = gradient.shape
    # The largest number of rows up to ROWS_AT_ONCE that divides the height, less than the height where it can
    # be: XLA would unroll a loop of one turn.
    most = max(1, min(ROWS_AT_ONCE, height - 1))
    some = next(n for n in range(most, 0, -1) if height % n == 0)

    def add(total, row):
        # Rows `row` to `row + some` of the gradient, and all rows of the images that they come from.
        piece = jax.lax.dynamic_slice_in_dim(gradient, row, some, 1)
        images = jax.lax.dynamic_slice_in_dim(x, row * strides[0], (some - 1) * strides[0] + rows, 1)
        # rows * columns products of (batch, some, width, channels), each summed to (batch, channels)
        products = tuple(
            _seen(images, i, j, strides, (some, width)) * piece for i in range(rows) for j in range(columns)
        )
        zeros = tuple(jnp.zeros((), gradient.dtype) for _ in products)
        sums = jax.lax.reduce(products, zeros, lambda some, more: jax.tree.map(jnp.add, some, more), (1, 2))
        return total + jnp.stack(sums), None

    start = jnp.zeros((rows * columns, batch, channels), gradient.dtype)
    total, _ = jax.lax.scan(add, start, jnp.arange(0, height, some))
    return total.sum(1).reshape(shape)


def _kernel_gradient_at_once(x, gradient, shape, strides):
    """As `_kernel_gradient`, a sum over all rows for each place: a GPU has threads for all of them."""
    rows, columns = shape[:2]
    seen = (_seen(x, i, j, strides, gradient.shape[1:3]) for i in range(rows) for j in range(columns))
    return jnp.stack([jnp.sum(images * gradient, (0, 1, 2)) for images in seen]).reshape(shape)


def _shifted(
    x: jax.Array, kernel: jax.Array, *, strides: tuple[int, ...], pads: Pads, in_pieces: bool
) -> jax.Array:
    dtype = x.dtype
    # Sums in float32, as convolutions add.
    x = jnp.pad(x, ((0, 0), *pads, (0, 0))).astype(jnp.promote_types(dtype, jnp.float32))
    size = tuple(
        (whole - part) // stride + 1 for whole, part, stride in zip(x.shape[1:], kernel.shape, strides)
    )
    return _add_shifted(x, kernel.astype(x.dtype), strides, size, in_pieces).astype(dtype)
