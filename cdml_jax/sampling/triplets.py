"""Triplets drawn on device, inside a batch, as often as the model confuses their two classes.

The batches themselves are composed on the host: see `plan_epoch`, in cdml_jax/sampling/plan.py.

Draws are exact in integers: which rows they pick does not depend on how XLA shards or fuses a sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from cdml_jax.confusion.draws import below
from cdml_jax.confusion.forms import as_pair_weights
from cdml_jax.confusion.interface import PairWeights
from cdml_jax.confusion.labels import class_labels

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray


Drawn = TypeVar("Drawn", covariant=True)


class Sample(Protocol[Drawn]):
    """Draws rows of a batch by pair weights: `sample_triplets` or `sample_pairs` with its number bound."""

    def __call__(
        self,
        key: PRNGKeyArray,
        labels: Integer[Array, " batch"],
        pair_weights: PairWeights,
        *,
        where: Bool[Array, " batch"] | None = None,
    ) -> Drawn:
        """Rows drawn among those where `where`."""


class Triplets(NamedTuple):
    """Rows of the batch: anchor, positive, negative, each (T,) int32, and valid, (T,) bool."""

    anchor: Int[Array, " triplets"]
    positive: Int[Array, " triplets"]
    negative: Int[Array, " triplets"]
    valid: Bool[Array, " triplets"]


def sample_triplets(
    key: PRNGKeyArray,
    labels: Integer[Array, " batch"],
    pair_weights: Float[Array, "classes classes"] | PairWeights,
    *,
    num_triplets: int,
    where: Bool[Array, " batch"] | None = None,
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
        same law from other draws. Or, inside shard_map, `ByClassPairWeights`: the same draws; labels are the
        whole batch's on each device, and so are the triplets.
      num_triplets: T, a static number; draws are independent (with replacement).
      where: rows that count; the others may hold any label. A row whose label is not a class does not count.

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
    labels = class_labels(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    pairs = as_pair_weights(pair_weights)
    if len(pairs.shape) != 2 or pairs.shape[0] != pairs.shape[1]:
        raise ValueError(f"pair_weights: shape {pairs.shape} is not square")
    key_pair, key_rows = jax.random.split(key)
    rows = _rows_by_class(labels, where, pairs.num_classes)
    first, second, valid = pairs.draw(key_pair, rows.classes, rows.counts, num_triplets)
    # Rows inside the classes: a positive is another row than the anchor, so it is counted past it.
    bits = jax.random.bits(key_rows, (3, num_triplets), jnp.uint32)
    of_anchor = below(bits[0], rows.counts[first])
    of_positive = below(bits[1], rows.counts[first] - 1)
    of_positive += (of_positive >= of_anchor).astype(jnp.int32)
    of_negative = below(bits[2], rows.counts[second])

    def row(of_class: jax.Array, place: jax.Array) -> jax.Array:
        return jnp.where(valid, rows.order[rows.starts[of_class] + jnp.where(valid, place, 0)], 0)

    return Triplets(row(first, of_anchor), row(first, of_positive), row(second, of_negative), valid)


class Pairs(NamedTuple):
    """Pairs of rows of the batch: first and second, each (P,) int32, and valid, (P,) bool."""

    first: Int[Array, " pairs"]
    second: Int[Array, " pairs"]
    valid: Bool[Array, " pairs"]


def sample_pairs(
    key: PRNGKeyArray,
    labels: Integer[Array, " batch"],
    pair_weights: Float[Array, "classes classes"] | PairWeights,
    *,
    num_pairs: int,
    where: Bool[Array, " batch"] | None = None,
) -> Pairs:
    r"""Pairs of rows of two classes, the classes drawn in proportion to `pair_weights`.

    .. math:: \Pr(i, j) = A_{ij} / \sum_{(k, l) \in S} A_{kl}, \quad S = \{(k, l) : k \ne l,\ n_k, n_l \ge 1\}

    where n_k counts the batch's real rows of class k. Both rows are then uniform inside their classes.

    Args:
      key: of the draws.
      labels: class of each row, from 0.
      pair_weights: A, as `sample_triplets` takes it.
      num_pairs: P, a static number; draws are independent (with replacement).
      where: rows that count; the others may hold any label.

    Returns:
      `Pairs`; where the batch serves no pair of positive weight, none is valid and the rows are 0.

    >>> pairs = sample_pairs(jax.random.key(0), jnp.array([5, 2]), jnp.ones((6, 6)).at[2].set(0), num_pairs=2)
    >>> pairs.first.tolist(), pairs.second.tolist()
    ([0, 0], [1, 1])
    """
    labels, pairs = class_labels(labels), as_pair_weights(pair_weights)
    key_pair, key_rows = jax.random.split(key)
    rows = _rows_by_class(labels, where, pairs.num_classes)
    # A draw asks for two rows of the first class, for it is made for triplets; here one is enough.
    enough = jnp.where(rows.counts > 0, rows.counts + 1, 0)
    first, second, valid = pairs.draw(key_pair, rows.classes, enough, num_pairs)
    bits = jax.random.bits(key_rows, (2, num_pairs), jnp.uint32)

    def row(of_class: jax.Array, bits: jax.Array) -> jax.Array:
        place = below(bits, jnp.maximum(rows.counts[of_class], 1))
        return jnp.where(valid, rows.order[rows.starts[of_class] + jnp.where(valid, place, 0)], 0)

    return Pairs(row(first, bits[0]), row(second, bits[1]), valid)


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
