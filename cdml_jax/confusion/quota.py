"""How many triplets each ordered pair of classes gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from cdml_jax.confusion.forms import as_pair_weights

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def triplet_quota(
    pair_weights: Float[Array, "classes classes"], num_triplets: int | jax.Array
) -> Int[Array, "classes classes"]:
    r"""Number of triplets for each ordered pair of classes, N_ij ∝ A_ij by largest remainder.

    .. math:: N_{ij} = \lfloor N A_{ij} \rfloor + [\text{its remainder is among the largest}],
              \qquad \sum_{ij} N_{ij} = N

    Args:
      pair_weights: A; rescaled to sum 1.
      num_triplets: N, at most 2^24 or so (shares are float32).

    Returns:
      (C, C) int32 with sum N; ties go to the pair that comes first, none to a pair of weight 0. All zeros
      if all weights are.

    Raises:
      TypeError: `TopPairWeights`: their quota is a matrix as large as they avoid; draw instead.

    >>> triplet_quota(jnp.array([[0.0, 0.5], [0.5, 0.0]]), 5).tolist()
    [[0, 3], [2, 0]]

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    matrix = as_pair_weights(pair_weights).matrix
    if matrix is None:
        kind = type(pair_weights).__name__
        raise TypeError(f"pair_weights: a quota is (C, C); of {kind} draw with sample_triplets")
    weights = jnp.asarray(matrix, jnp.float32).ravel()
    total = weights.sum()
    number = jnp.asarray(num_triplets, jnp.int32)
    exact = number.astype(jnp.float32) * (weights / jnp.where(total > 0, total, 1))
    quota = jnp.floor(exact).astype(jnp.int32)
    remainder = exact - quota.astype(jnp.float32)
    missing = jnp.where(total > 0, number - quota.sum(dtype=jnp.int32), 0)
    # Places by falling remainder, among the pairs of positive weight: the first get one more.
    up = _rank(jnp.where(weights > 0, -remainder, 1))
    # Rounded shares may carry the floors past N by a few: those give back what they have.
    down = _rank(jnp.where(quota > 0, remainder, 1))
    pairs = jnp.maximum((weights > 0).sum(dtype=jnp.int32), 1)
    added = jnp.where(weights > 0, missing // pairs + (up < missing % pairs).astype(jnp.int32), 0)
    quota += jnp.where(missing >= 0, added, -(down < -missing).astype(added.dtype)).astype(jnp.int32)
    return quota.reshape(matrix.shape)


def _rank(values: jax.Array) -> jax.Array:
    """Place of each value in ascending order, the first of equals first."""
    order = jnp.argsort(values, stable=True).astype(jnp.int32)
    return jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=order.dtype))
