"""How well embeddings retrieve their own class: Recall@K, R-precision and mAP@R, by exact neighbours."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.retrieval.checks import checked_labels
from cdml_jax.retrieval.neighbours import checked_pair, search
from cdml_jax.retrieval.resolution import within_rounding

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int, Integer, Num

    from cdml_jax.retrieval.neighbours import Found

_ENTRIES = 1 << 22  # neighbours whose classes are looked up at once
_NOISE = 0.1  # share of queries that rounding may decide before the figures are called noise


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Figures of a retrieval, each the mean over the queries that have something to find.

    Attributes:
      recall: K to the share of queries with an image of their class among the K nearest.
      r_precision: share of the class among the R nearest, R the number of references of the query's class.
      map_at_r: mean average precision at R.
      queries: how many the means are over; with none, they are NaN.
      unresolved: share of queries (of 1,000 of them, if there are more) that equal an embedding of another
        class within the rounding of their numbers: what is nearest to these is chance.
    """

    recall: dict[int, float]
    r_precision: float
    map_at_r: float
    queries: int
    unresolved: float = 0.0

    @property
    def warning(self) -> str | None:
        """One line where rounding, not the embeddings, decides the figures; None elsewhere."""
        if self.unresolved <= _NOISE:
            return None
        return (
            f"{self.unresolved:.0%} of the embeddings equal one of another class within the rounding of "
            "their numbers: they have collapsed, or lie too far from 0, and their retrieval figures are noise"
        )

    def __str__(self) -> str:
        if not self.queries:
            return "no image has another of its class to find"
        recall = ", ".join(f"Recall@{k} {value:.2%}" for k, value in self.recall.items())
        figures = f"mAP@R {self.map_at_r:.2%}, R-precision {self.r_precision:.2%}"
        return f"{recall}, {figures}, {self.queries} queries"


def retrieval(
    embeddings: Num[ArrayLike, "queries size"],
    labels: Int[ArrayLike, " queries"],
    references: Num[ArrayLike, "references size"] | None = None,
    reference_labels: Int[ArrayLike, " references"] | None = None,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    devices: Sequence[jax.Device] | None = None,
) -> Retrieval:
    r"""Recall@K, R-precision and mAP@R of queries among references, or among each other.

    .. math:: \text{mAP@R} = \frac{1}{Q} \sum_q \frac{1}{R_q} \sum_{i=1}^{R_q} P_q(i) \, m_q(i)

    where m_q(i) is 1 if the i-th nearest is of the query's class, else 0, P_q(i) is the share of the class
    among the i nearest, and R_q the number of references of the class. Without references each embedding is
    sought among all others: itself is left out by its index, so that its duplicates stay.

    Args:
      embeddings: of the queries.
      labels: their classes, integers.
      references: what is searched; None for the embeddings themselves.
      reference_labels: classes of the references.
      recall_at: the values of K, each positive.
      devices: share the queries; None for JAX's default device.

    Returns:
      The figures. A query without a reference of its class counts in none of them.

    Raises:
      ValueError: shapes that do not fit together, an embedding that is not finite, K below 1, one of
        references and reference_labels without the other.
      TypeError: labels that are not integers.

    >>> found = retrieval([[0.0], [1.0], [5.0], [6.0], [1.6]], [0, 0, 1, 1, 1], recall_at=(1, 2))
    >>> found.recall, found.queries
    ({1: 0.6, 2: 0.8}, 5)

    Source: Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020 (R-precision, mAP@R).
    """
    queries, held = checked_pair(embeddings, references)
    labels = checked_labels(labels, len(queries), "labels")
    if (references is None) != (reference_labels is None):
        raise ValueError("references and reference_labels go together")
    if not recall_at or min(recall_at) < 1:
        raise ValueError(f"recall_at must be positive, not {tuple(recall_at)}")
    alone = held is None
    targets = labels if held is None else checked_labels(reference_labels, len(held), "reference_labels")
    _, classes = np.unique(np.concatenate([labels, targets]), return_inverse=True)
    asked, found = classes[: labels.size].astype(np.int32), classes[labels.size :].astype(np.int32)
    relevant = np.bincount(found, minlength=classes.max(initial=0) + 1)[asked] - int(alone)
    kept = relevant > 0
    if not kept.any():
        return Retrieval(dict.fromkeys(recall_at, math.nan), math.nan, math.nan, 0)
    k = int(max(*recall_at, relevant.max()))
    figures, witnesses = np.zeros((len(recall_at) + 2, len(queries)), np.float32), np.zeros(len(queries), int)
    for rows, indices in _gathered(search(queries, held, k, devices, found), k, len(queries)):
        padded = np.zeros(len(indices), np.int64)
        padded[: len(rows)] = rows
        values, others = _measures(
            indices, asked[padded], relevant[padded].astype(np.int32), found, recall_at=tuple(recall_at)
        )
        figures[:, rows] = np.asarray(values)[:, : len(rows)]
        witnesses[rows] = np.asarray(others)[: len(rows)]
    *recall, precision, average = figures[:, kept].sum(axis=1, dtype=np.float64) / kept.sum()
    unresolved = within_rounding(
        queries, queries if held is None else held, asked, found, np.flatnonzero(kept), witnesses
    )
    return Retrieval(
        dict(zip(recall_at, map(float, recall))),
        float(precision),
        float(average),
        int(kept.sum()),
        unresolved,
    )


def average_precision_at(hits: ArrayLike, *, over: str = "hits") -> Float[np.ndarray, " queries"]:
    r"""Average precision of the first K results of each query, by a stated denominator.

    .. math:: \frac{1}{N_q} \sum_{i=1}^{K} P_q(i) \, m_q(i)

    where m_q(i) is 1 if the i-th result is of the query's class, else 0, and P_q(i) is the share of the class
    among the first i. N_q is the number of hits among the K ("hits"; 0 where there is none), or K ("k").
    Papers that print "top-1" and "top-5" mAP seldom say which. With K = 1 both are Recall@1.

    Args:
      hits: (queries, K), true where a result is of the query's class, the nearest first.
      over: "hits" or "k".

    >>> [average_precision_at([[0, 1, 1, 0, 1]], over=over).round(4).tolist() for over in ("hits", "k")]
    [[0.5889], [0.3533]]
    """
    if over not in ("hits", "k"):
        raise ValueError(f"over must be hits or k, not {over!r}")
    same = np.asarray(hits, np.float64)
    precision = np.cumsum(same, axis=1) / np.arange(1, same.shape[1] + 1)
    number = same.sum(axis=1) if over == "hits" else np.full(len(same), same.shape[1])
    return (precision * same).sum(axis=1) / np.maximum(number, 1)


def _gathered(found: Iterable[Found], k: int, queries: int) -> Iterator[Found]:
    """The same in blocks of one shape, so that measuring compiles once: (rows,) and (block, k), −1 behind."""
    block = max(8, min(_ENTRIES // k, -(-queries // 8) * 8))
    rows, indices, filled = np.zeros(block, np.int64), np.full((block, k), -1, np.int32), 0
    for part, neighbours in found:
        while len(part):
            taken = min(len(part), block - filled)
            rows[filled : filled + taken] = part[:taken]
            indices[filled : filled + taken] = neighbours[:taken]
            part, neighbours, filled = part[taken:], neighbours[taken:], filled + taken
            if filled == block:
                yield rows, indices
                rows, indices, filled = rows.copy(), np.full((block, k), -1, np.int32), 0
    if filled:
        yield rows[:filled], indices


@functools.partial(jax.jit, static_argnames="recall_at")
def _measures(
    indices: Int[Array, "block k"],
    labels: Integer[Array, " block"],
    relevant: Int[Array, " block"],
    reference_labels: Integer[Array, " references"],
    *,
    recall_at: tuple[int, ...],
) -> tuple[Float[Array, "figures block"], Int[Array, " block"]]:
    """Recall at each K, R-precision and average precision at R of every query of a block.

    And the index of its nearest neighbour of another class, or of its last where all are of its own.
    """
    there = indices >= 0
    same = (reference_labels[indices] == labels[:, None]) & there
    places = jnp.arange(1, indices.shape[1] + 1)
    within = same & (places <= relevant[:, None])
    count = jnp.maximum(relevant, 1).astype(jnp.float32)
    precision = jnp.where(within, jnp.cumsum(within, axis=1) / places, 0).sum(axis=1)
    recall = [same[:, :k].any(axis=1).astype(jnp.float32) for k in recall_at]
    other = there & ~same
    place = jnp.where(other.any(axis=1), other.argmax(axis=1), there.sum(axis=1) - 1)
    witness = jnp.take_along_axis(indices, place[:, None], axis=1)[:, 0]
    return jnp.stack([*recall, within.sum(axis=1) / count, precision / count]), witness
