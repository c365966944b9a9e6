"""Whether the numbers of embeddings have enough digits to separate classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Integer

_SAMPLE = 1_000  # queries that are looked at
_FIRST = 8  # numbers of a pair that are compared before all are
_REFERENCES = 64  # references that each is compared with where its neighbours do not decide


def within_rounding(
    queries: Float[np.ndarray, "queries size"],
    references: Float[np.ndarray, "references size"],
    labels: Integer[np.ndarray, " queries"],
    reference_labels: Integer[np.ndarray, " references"],
    rows: Int[np.ndarray, " kept"],
    witnesses: Int[np.ndarray, " queries"],
) -> float:
    """Share of queries that have a reference of another class within the rounding of their numbers.

    Two numbers of a type of resolution eps that are rounded from equal ones may differ by eps |x|, and by as
    much of a typical x where they are near 0 themselves: embeddings none of whose numbers differ by more
    cannot be told apart. Copies of one embedding that all are of one class do not count.

    Args:
      queries: embeddings.
      references: what was searched.
      labels: classes of the queries.
      reference_labels: classes of the references.
      rows: queries that count, at least one; 1,000 of them are looked at.
      witnesses: of each query its nearest reference of another class, or the last of its neighbours where all
        are of its class: those of other classes are farther then.
    """
    rows = rows[:: -(-len(rows) // _SAMPLE)]
    eps = max(float(jnp.finfo(x.dtype).eps) for x in (queries, references))
    near = _equal(queries[rows], references[witnesses[rows]], eps)
    decided = reference_labels[witnesses[rows]] != labels[rows]
    # All neighbours are of one class and at one place: are others there as well?
    sample = np.arange(0, len(references), -(-len(references) // _REFERENCES))
    for place in np.flatnonzero(near & ~decided):
        others = references[sample[reference_labels[sample] != labels[rows[place]]]]
        near[place] = _equal(queries[rows[place]][None], others, eps).any()
    return float(near.mean())


def _equal(
    queries: Float[np.ndarray, "rows size"], references: Float[np.ndarray, "others size"], eps: float
) -> Bool[np.ndarray, " others"]:
    """Whether no number of a pair differs by more than its rounding."""
    equal = np.zeros(len(references), bool)
    # Nearly all pairs differ in one of their first numbers, by more than the row's largest could be rounded.
    most = 2 * eps * np.abs(queries).max(axis=1, keepdims=True, initial=0).astype(np.float64)
    first = queries[:, :_FIRST].astype(np.float64) - references[:, :_FIRST].astype(np.float64)
    (left,) = np.nonzero((np.abs(first) <= most).all(axis=1))
    if left.size:
        equal[left] = _equal_in_all(queries[left] if len(queries) > 1 else queries, references[left], eps)
    return equal


def _equal_in_all(queries: np.ndarray, references: np.ndarray, eps: float) -> np.ndarray:
    queries = queries.astype(np.float64)
    sizes = np.abs(queries)
    reach = eps * np.maximum(sizes, np.median(sizes, axis=1, keepdims=True)) if sizes.size else sizes
    return (np.abs(queries - references.astype(np.float64)) <= reach).all(axis=1)
