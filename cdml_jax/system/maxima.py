"""The largest value along an axis, with a gradient that no rounding loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def largest_along(values: Float[Array, "*shape"], axis: int) -> Float[Array, "*rest"]:
    """The largest value along an axis of length 1 or more; its gradient is that of one of equal values.

    >>> values = jnp.array([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    >>> jax.jacobian(largest_along)(values, 1).sum(axis=0).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    # `max` divides it by how many equal the result: none, and NaN, where XLA computes them twice and rounds.
    while (size := values.shape[axis]) > 1:
        half = -(-size // 2)
        first = jax.lax.slice_in_dim(values, 0, half, axis=axis)
        second = jax.lax.slice_in_dim(values, size - half, size, axis=axis)
        values = jnp.where((first >= second) | jnp.isnan(first), first, second)
    return jnp.squeeze(values, axis)
