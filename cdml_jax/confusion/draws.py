"""Exact draws on device, decided by integers.

What is picked does not depend on how XLA shards or fuses a sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray, UInt32

AT_ONCE = 2**22  # comparisons


def draw_cells(
    key: PRNGKeyArray, weights: Float[Array, "rows columns"], number: int
) -> tuple[Int[Array, " number"], Int[Array, " number"], Bool[Array, " number"]]:
    """Rows and columns of cells drawn ∝ weights, with replacement, and whether there was anything to draw.

    The row first, then the column: two scales of integers keep cells apart whose weights differ by many
    orders of magnitude, and sums of integers are the same in any order.

    >>> row, column, valid = draw_cells(jax.random.key(0), jnp.array([[0.0, 0.0], [2.0, 0.0]]), 2)
    >>> row.tolist(), column.tolist(), valid.tolist()
    ([1, 1], [0, 0], [True, True])
    """
    # Within each row: cells as integers, their running sums (rows, columns).
    largest = weights.max(axis=1, keepdims=True)
    cumulative = jnp.cumsum(_integer_shares(weights, largest), axis=1, dtype=jnp.uint32)
    # Between rows: their sums, put back on one scale, as integers again, (rows,).
    overall = weights.max()
    mass = cumulative[:, -1].astype(jnp.float32) * (largest[:, 0] / jnp.where(overall > 0, overall, 1))
    rows_cumulative = jnp.cumsum(_integer_shares(mass, mass.max()), dtype=jnp.uint32)
    valid = jnp.broadcast_to(rows_cumulative[-1] > 0, (number,))
    bits = jax.random.bits(key, (2, number), jnp.uint32)
    row = invert(rows_cumulative[None, :], jnp.zeros(number, jnp.int32), below(bits[0], rows_cumulative[-1]))
    column = invert(cumulative, row, below(bits[1], cumulative[row, -1]))
    return row, column, valid


def below(bits: UInt32[Array, "*n"], bound: Integer[Array, "*#n"]) -> Int[Array, "*n"]:
    """Random bits to integers in [0, bound), by the high word of their product; 0 for bound < 1.

    >>> below(jnp.array([0, 2**31, 2**32 - 1], jnp.uint32), jnp.int32(10)).tolist()
    [0, 5, 9]
    """
    bound = jnp.maximum(bound, 0).astype(jnp.uint32)
    # The product of two 32-bit numbers by 16-bit halves; its high 32 bits are what is returned.
    low_bits, high_bits = bits & 0xFFFF, bits >> 16
    low_bound, high_bound = bound & 0xFFFF, bound >> 16
    middle = high_bits * low_bound + ((low_bits * low_bound) >> 16)
    carry = (low_bits * high_bound + (middle & 0xFFFF)) >> 16
    return (high_bits * high_bound + (middle >> 16) + carry).astype(jnp.int32)


def invert(
    cumulative: UInt32[Array, "rows columns"], row: Int[Array, " n"], targets: Int[Array, " n"]
) -> Int[Array, " n"]:
    """First column of cumulative[row] that exceeds each target.

    By bisection, so that no (n, columns) is made; on a TPU, which gathers one after another, small ones are
    compared with all columns at once.
    """
    if targets.size * cumulative.shape[1] > AT_ONCE:
        return _bisected(cumulative, row, targets)
    return jax.lax.platform_dependent(cumulative, row, targets, tpu=_compared, default=_bisected)


def _compared(cumulative: jax.Array, row: jax.Array, targets: jax.Array) -> jax.Array:
    seen = cumulative if len(cumulative) == 1 else cumulative[row]  # (1 or n, columns)
    passed = (seen <= targets.astype(jnp.uint32)[:, None]).sum(axis=1, dtype=jnp.int32)
    return jnp.minimum(passed, cumulative.shape[1] - 1)


def _bisected(cumulative: jax.Array, row: jax.Array, targets: jax.Array) -> jax.Array:
    columns = cumulative.shape[1]
    targets = targets.astype(jnp.uint32)
    low = jnp.zeros_like(row)
    step = 1 << max(columns - 1, 0).bit_length()
    while step := step // 2:
        probe = jnp.minimum(low + step, columns)
        low = jnp.where(cumulative[row, probe - 1] <= targets, probe, low)
    return jnp.minimum(low, columns - 1)


def _integer_shares(values: jax.Array, largest: jax.Array) -> jax.Array:
    """Values as integers whose sum over the last axis stays below 2^32; none that is positive becomes 0."""
    scale = 2.0 ** (31 - max(values.shape[-1] - 1, 1).bit_length())
    shares = jnp.round(values / jnp.where(largest > 0, largest, 1) * scale).astype(jnp.uint32)
    return jnp.where(values > 0, jnp.maximum(shares, 1), 0)
