"""Triplets drawn on device, inside a batch, as often as the model confuses their two classes.

The batches themselves are composed on the host: see `plan_epoch`, in cdml_jax/plan.py.

Draws are exact in integers: which rows they pick does not depend on how XLA shards or fuses a sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from cdml_jax.plan import composition_correction, expected_class_shares, plan_epoch
from cdml_jax.top_confusions import TopPairWeights

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

__all__ = ["Triplets", "composition_correction", "expected_class_shares", "plan_epoch", "sample_triplets"]


class Triplets(NamedTuple):
    """Rows of the batch: anchor, positive, negative, each (T,) int32, and valid, (T,) bool."""

    anchor: Int[Array, " triplets"]
    positive: Int[Array, " triplets"]
    negative: Int[Array, " triplets"]
    valid: Bool[Array, " triplets"]


def sample_triplets(
    key: PRNGKeyArray,
    labels: Int[Array, " batch"],
    pair_weights: Float[Array, "classes classes"] | TopPairWeights,
    *,
    num_triplets: int,
    where: Bool[Array, " batch"] | None = None,
    rows_axis: str | None = None,
) -> Triplets:
    r"""Triplets whose class pairs are drawn in proportion to `pair_weights`.

    .. math:: \Pr(i, j) = A_{ij} / \sum_{(k, l) \in S} A_{kl}, \quad
              S = \{(k, l) : k \ne l,\ n_k \ge 2,\ n_l \ge 1\}

    where n_k counts the batch's real rows of class k. How many rows a class has does not matter
    otherwise. Anchor, positive (another row) and negative are then uniform inside their classes.

    Args:
      key: of the draws.
      labels: class of each row, from 0.
      pair_weights: A (C, C), not negative, of any scale; its diagonal is ignored. Or `TopPairWeights`: the
        same law from other draws.
      num_triplets: T, a static number; draws are independent (with replacement).
      where: rows that count; the others may hold any label. A row whose label is no class does not count.
      rows_axis: inside shard_map, the axis over which the rows of a matrix A are split, evenly and in order,
        with rows of no class at the end where they must be. Labels are the whole batch's, and so are the
        triplets; devices exchange the weights among the classes of the batch alone.

    Returns:
      `Triplets`; where the batch serves no pair of positive weight, none is valid and the rows are 0.

    Raises:
      TypeError: labels are not integers.
      ValueError: pair_weights is not square.

    Memory is min(B, C)² + T, or B K + T for `TopPairWeights`: only the classes present are looked at.

    >>> triplets = sample_triplets(
    ...     jax.random.key(0), jnp.array([5, 2, 5]), jnp.ones((6, 6)), num_triplets=4
    ... )
    >>> triplets.negative.tolist(), bool(triplets.valid.all())
    ([1, 1, 1, 1], True)

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    key_pair, key_rows = jax.random.split(key)
    if isinstance(pair_weights, TopPairWeights):
        rows = _rows_by_class(labels, where, pair_weights.rest.shape[0])
        first, second, valid = _draw_top_pairs(key_pair, pair_weights, rows, num_triplets)
    else:
        pair_weights = jnp.asarray(pair_weights)
        if pair_weights.ndim != 2 or (rows_axis is None and pair_weights.shape[0] != pair_weights.shape[1]):
            raise ValueError(f"pair_weights: shape {pair_weights.shape} is not square")
        rows = _rows_by_class(labels, where, pair_weights.shape[1])
        weights = _weights_among(rows.classes, pair_weights, rows_axis)
        served = (rows.counts >= 2)[:, None] & (rows.counts >= 1)[None, :]
        served &= ~jnp.eye(rows.counts.size, dtype=bool)
        weights = jnp.where(served & (weights > 0), weights, 0)
        first, second, valid = _draw_pairs(key_pair, weights, num_triplets)
    bits = jax.random.bits(key_rows, (3, num_triplets), jnp.uint32)
    of_anchor = _below(bits[0], rows.counts[first])
    of_positive = _below(bits[1], rows.counts[first] - 1)
    of_positive += (of_positive >= of_anchor).astype(jnp.int32)
    of_negative = _below(bits[2], rows.counts[second])

    def row(of_class: jax.Array, place: jax.Array) -> jax.Array:
        return jnp.where(valid, rows.order[rows.starts[of_class] + jnp.where(valid, place, 0)], 0)

    return Triplets(row(first, of_anchor), row(first, of_positive), row(second, of_negative), valid)


class _Rows(NamedTuple):
    """The batch sorted by class: `classes` are min(B, C) classes, those present among them."""

    classes: jax.Array  # (U,) int32
    counts: jax.Array  # (U,) int32: real rows of each
    starts: jax.Array  # (U,) int32: where its rows begin in `order`
    order: jax.Array  # (B,) int32


def _rows_by_class(labels: jax.Array, where: jax.Array | None, num_classes: int) -> _Rows:
    batch = labels.shape[0]
    real = (labels >= 0) & (labels < num_classes)
    if where is not None:
        real &= jnp.asarray(where, bool)
    labels = jnp.where(real, labels, num_classes).astype(jnp.int32)
    order = jnp.argsort(labels, stable=True).astype(jnp.int32)
    if num_classes <= batch:
        classes = jnp.arange(num_classes, dtype=jnp.int32)
        slot = labels
    else:
        in_order = labels[order]
        new = jnp.concatenate([jnp.zeros(1, bool), in_order[1:] != in_order[:-1]])
        slot_in_order = jnp.cumsum(new, dtype=jnp.int32)
        classes = jnp.zeros(batch, jnp.int32).at[slot_in_order].max(jnp.minimum(in_order, num_classes - 1))
        slot = jnp.zeros(batch, jnp.int32).at[order].set(slot_in_order)
    counts = jnp.zeros(classes.size, jnp.int32).at[slot].add(real.astype(jnp.int32), mode="drop")
    return _Rows(classes, counts, jnp.cumsum(counts, dtype=jnp.int32) - counts, order)


def _weights_among(classes: jax.Array, pair_weights: jax.Array, rows_axis: str | None) -> jax.Array:
    """(U, U) weights of the classes; where the rows are split, every device gives those it has."""
    if rows_axis is None:
        return pair_weights[classes[:, None], classes[None, :]].astype(jnp.float32)
    mine = classes - jax.lax.axis_index(rows_axis) * pair_weights.shape[0]
    here = ((mine >= 0) & (mine < pair_weights.shape[0]))[:, None]
    weights = pair_weights[jnp.where(here, mine[:, None], 0), classes[None, :]].astype(jnp.float32)
    return jax.lax.psum(jnp.where(here, weights, 0), rows_axis)


def _draw_top_pairs(
    key: jax.Array, pair_weights: TopPairWeights, rows: _Rows, number: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `_draw_pairs`: one of the class's listed answers for its excess, or any class for the rest.

    The table has K + 1 columns for each class of the batch; the last one is all its other classes together.
    """
    key_pair, key_other = jax.random.split(key)
    there = rows.counts >= 1
    listed = pair_weights.indices[rows.classes]
    # The batch's classes ascend, then places of no class follow: those are beyond all.
    ascending = jnp.where(there, rows.classes, pair_weights.rest.shape[0])
    present = jnp.argsort(ascending, stable=True).astype(jnp.int32)
    place = jnp.searchsorted(ascending[present], listed).astype(jnp.int32)
    slots = present[jnp.minimum(place, present.size - 1)]
    met = (listed == rows.classes[slots]) & there[slots] & (listed != rows.classes[:, None])
    others = there.sum(dtype=jnp.int32) - 1
    excess = jnp.where(met, pair_weights.excess[rows.classes], 0).astype(jnp.float32)
    rest = pair_weights.rest[rows.classes].astype(jnp.float32) * others
    weights = jnp.concatenate([excess, rest[:, None]], axis=1)
    weights = jnp.where((rows.counts >= 2)[:, None] & (weights > 0), weights, 0)
    first, column, valid = _draw_pairs(key_pair, weights, number)
    of_other = _below(jax.random.bits(key_other, (number,), jnp.uint32), others)
    rank = jnp.zeros_like(present).at[present].set(jnp.arange(present.size, dtype=jnp.int32))
    of_other += (of_other >= rank[first]).astype(jnp.int32)
    by_excess = slots[first, jnp.minimum(column, excess.shape[1] - 1)]
    second = jnp.where(column < excess.shape[1], by_excess, present[jnp.minimum(of_other, present.size - 1)])
    return first, second, valid


def _draw_pairs(key: jax.Array, weights: jax.Array, number: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(number,) rows and columns drawn ∝ weights (U, U), and whether there was anything to draw.

    The row first, then the column: two scales of integers keep pairs apart whose weights differ by many
    orders of magnitude, and sums of integers are the same in any order.
    """
    largest = weights.max(axis=1, keepdims=True)
    shares = _integer_shares(weights, largest)
    cumulative = jnp.cumsum(shares, axis=1, dtype=jnp.uint32)
    overall = weights.max()
    mass = cumulative[:, -1].astype(jnp.float32) * (largest[:, 0] / jnp.where(overall > 0, overall, 1))
    rows_cumulative = jnp.cumsum(_integer_shares(mass, mass.max()), dtype=jnp.uint32)
    valid = jnp.broadcast_to(rows_cumulative[-1] > 0, (number,))
    bits = jax.random.bits(key, (2, number), jnp.uint32)
    row = _invert(
        rows_cumulative[None, :], jnp.zeros(number, jnp.int32), _below(bits[0], rows_cumulative[-1])
    )
    column = _invert(cumulative, row, _below(bits[1], cumulative[row, -1]))
    return row, column, valid


def _integer_shares(values: jax.Array, largest: jax.Array) -> jax.Array:
    """Values as integers whose sum over the last axis stays below 2^32; none that is positive becomes 0."""
    scale = 2.0 ** (31 - max(values.shape[-1] - 1, 1).bit_length())
    shares = jnp.round(values / jnp.where(largest > 0, largest, 1) * scale).astype(jnp.uint32)
    return jnp.where(values > 0, jnp.maximum(shares, 1), 0)


def _below(bits: jax.Array, bound: jax.Array) -> jax.Array:
    """Random bits (uint32) to integers in [0, bound), by the high word of their product; 0 for bound < 1."""
    bound = jnp.maximum(bound, 0).astype(jnp.uint32)
    low_bits, high_bits = bits & 0xFFFF, bits >> 16
    low_bound, high_bound = bound & 0xFFFF, bound >> 16
    middle = high_bits * low_bound + ((low_bits * low_bound) >> 16)
    carry = (low_bits * high_bound + (middle & 0xFFFF)) >> 16
    return (high_bits * high_bound + (middle >> 16) + carry).astype(jnp.int32)


def _invert(cumulative: jax.Array, row: jax.Array, targets: jax.Array) -> jax.Array:
    """First column of cumulative[row] that exceeds each target, by bisection: no (T, U) array is made."""
    columns = cumulative.shape[1]
    targets = targets.astype(jnp.uint32)
    low = jnp.zeros_like(row)
    step = 1 << max(columns - 1, 0).bit_length()
    while step := step // 2:
        probe = jnp.minimum(low + step, columns)
        low = jnp.where(cumulative[row, probe - 1] <= targets, probe, low)
    return jnp.minimum(low, columns - 1)
