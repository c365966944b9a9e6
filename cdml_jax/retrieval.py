"""How well embeddings retrieve their own class: Recall@K, R-precision and mAP@R, by exact neighbours."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.clustering import normalized_mutual_information
from cdml_jax.neighbours import checked_labels, nearest, search

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int

__all__ = ["Retrieval", "nearest", "normalized_mutual_information", "retrieval"]


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Figures of a retrieval, each the mean over the queries that have something to find.

    Attributes:
      recall: K to the share of queries with an image of their class among the K nearest.
      r_precision: share of the class among the R nearest, R the number of references of the query's class.
      map_at_r: mean average precision at R.
      queries: how many the means are over; with none, they are NaN.
    """

    recall: dict[int, float]
    r_precision: float
    map_at_r: float
    queries: int

    def __str__(self) -> str:
        recall = ", ".join(f"Recall@{k} {value:.2%}" for k, value in self.recall.items())
        figures = f"mAP@R {self.map_at_r:.2%}, R-precision {self.r_precision:.2%}"
        return f"{recall}, {figures}, {self.queries} queries"


def retrieval(
    embeddings: Float[ArrayLike, "queries size"],
    labels: Int[ArrayLike, " queries"],
    references: Float[ArrayLike, "references size"] | None = None,
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
    labels = checked_labels(labels, len(np.asarray(embeddings)), "labels")
    if (references is None) != (reference_labels is None):
        raise ValueError("references and reference_labels go together")
    if not recall_at or min(recall_at) < 1:
        raise ValueError(f"recall_at must be positive, not {tuple(recall_at)}")
    alone = reference_labels is None
    targets = (
        labels if alone else checked_labels(reference_labels, len(np.asarray(references)), "reference_labels")
    )
    _, classes = np.unique(np.concatenate([labels, targets]), return_inverse=True)
    asked, held = classes[: labels.size].astype(np.int32), classes[labels.size :].astype(np.int32)
    relevant = np.bincount(held, minlength=classes.max(initial=0) + 1)[asked] - int(alone)
    kept = relevant > 0
    if not kept.any():
        return Retrieval(dict.fromkeys(recall_at, math.nan), math.nan, math.nan, 0)
    k = int(max(*recall_at, relevant.max()))
    totals = np.zeros(len(recall_at) + 2)
    steps = _measure_blocks(embeddings, references, k, devices, asked, held, relevant, tuple(recall_at))
    for rows, values in steps:
        totals += np.asarray(values, np.float64)[:, : rows.stop - rows.start][:, kept[rows]].sum(axis=1)
    *recall, precision, average = (totals / kept.sum()).tolist()
    return Retrieval(dict(zip(recall_at, recall)), precision, average, int(kept.sum()))


def _measure_blocks(
    embeddings: ArrayLike,
    references: ArrayLike | None,
    k: int,
    devices: Sequence[jax.Device] | None,
    labels: np.ndarray,
    reference_labels: np.ndarray,
    relevant: np.ndarray,
    recall_at: tuple[int, ...],
) -> list[tuple[slice, jax.Array]]:
    measured = []
    for rows, indices, device in search(embeddings, references, k, devices):
        padding = (0, indices.shape[0] - (rows.stop - rows.start))
        asked = np.pad(labels[rows], padding), np.pad(relevant[rows], padding).astype(np.int32)
        placed = jax.device_put((*asked, reference_labels), device)
        measured.append((rows, _measures(indices, *placed, recall_at=recall_at)))
    return measured


@functools.partial(jax.jit, static_argnames="recall_at")
def _measures(
    indices: Int[Array, "block k"],
    labels: Int[Array, " block"],
    relevant: Int[Array, " block"],
    reference_labels: Int[Array, " references"],
    *,
    recall_at: tuple[int, ...],
) -> Float[Array, "figures block"]:
    """Recall at each K, R-precision and average precision at R of every query of a block."""
    same = (reference_labels[indices] == labels[:, None]) & (indices >= 0)
    places = jnp.arange(1, indices.shape[1] + 1)
    within = same & (places <= relevant[:, None])
    count = jnp.maximum(relevant, 1).astype(jnp.float32)
    precision = jnp.where(within, jnp.cumsum(within, axis=1) / places, 0).sum(axis=1)
    recall = [same[:, :k].any(axis=1).astype(jnp.float32) for k in recall_at]
    return jnp.stack([*recall, within.sum(axis=1) / count, precision / count])
