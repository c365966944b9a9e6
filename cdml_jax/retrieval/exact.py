"""Distances by differences in float64 on the host: they decide where a product of embeddings cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cdml_jax.retrieval.checks import slices
from cdml_jax.retrieval.shortlist import Bound, Frame

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_REFERENCES = 1 << 13  # of one product on the host
_PAIRS = 1 << 22  # that may all have to be compared at once


def squared_distances(
    queries: Float[np.ndarray, "queries size"],
    references: Float[np.ndarray, "references size"],
    rows: Int[np.ndarray, " pairs"],
    indices: Int[np.ndarray, " pairs"],
) -> Float[np.ndarray, " pairs"]:
    """Squared distance of query rows[i] and reference indices[i], by differences in float64."""
    found = np.empty(len(rows))
    for part in slices(len(rows), queries.shape[1]):
        difference = queries[rows[part]].astype(np.float64)
        difference -= references[indices[part]]
        found[part] = np.square(difference, out=difference).sum(axis=-1)
    return found


def put_in_order(
    queries: Float[np.ndarray, "queries size"],
    references: Float[np.ndarray, "references size"],
    indices: Int[np.ndarray, "queries number"],
    ends: Bool[np.ndarray, "queries number"],
    wanted: int,
    classes: Int[np.ndarray, " references"] | None = None,
) -> Int[np.ndarray, "queries number"]:
    """The first `wanted` of each row by (distance, index), given where the order is sure.

    Args:
      queries: one a row.
      references: what the indices are of.
      indices: nearly in order; −1 where there are no more.
      ends: whether all up to a place are nearer than all behind it.
      wanted: places that must be right.
      classes: of the references; where given, neighbours of one class may stand in any order.
    """
    number = indices.shape[1]
    begins = np.ones_like(ends)
    begins[:, 1:] = ends[:, :-1]
    # A run of more than one place, whose order is open: it begins at one place and ends at a later one.
    open_ = ~(begins & ends) & (indices >= 0)
    places = np.flatnonzero(open_)
    runs = np.cumsum(begins.reshape(-1), dtype=np.int32)[places]
    # Runs that begin behind what is wanted stay as they are.
    first = np.flatnonzero(begins)[runs - 1] % number
    places, runs = places[first < wanted], runs[first < wanted]
    ordered = indices.reshape(-1).copy()
    if classes is not None and len(places):
        kinds = classes[ordered[places]]
        mixed = np.zeros(runs[-1] + 1, bool)
        mixed[runs[1:][(kinds[1:] != kinds[:-1]) & (runs[1:] == runs[:-1])]] = True
        places, runs = places[mixed[runs]], runs[mixed[runs]]
    members = ordered[places]
    distances = squared_distances(queries, references, places // number, members)
    ordered[places] = members[np.lexsort((members, distances, runs))]
    return ordered.reshape(indices.shape)


def first_copies(rows: Float[np.ndarray, "rows size"], number: int) -> Int[np.ndarray, " kept"]:
    """Indices of all rows but those that have `number` copies before them, which are nearer by index."""
    if not rows.size:
        return np.arange(min(len(rows), number))
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).reshape(-1)
    _, kinds = np.unique(whole, return_inverse=True)
    order = np.argsort(kinds, kind="stable")
    begins = np.searchsorted(kinds[order], kinds[order])  # where the first copy of each stands in the order
    return np.sort(order[np.arange(len(rows)) - begins < number])


def search_all(
    queries: Float[np.ndarray, "queries size"],
    references: Float[np.ndarray, "references size"],
    frame: Frame,
    wanted: int,
) -> Int[np.ndarray, "queries wanted"]:
    """The `wanted` nearest of each query: all that a product in float64 does not exclude are compared.

    There are `wanted` references or more.
    """
    block = max(8, min(512, _PAIRS // len(references)))
    found = [
        _search_block(queries[start : start + block], references, frame, wanted)
        for start in range(0, len(queries), block)
    ]
    return np.concatenate(found)


def _search_block(
    queries: np.ndarray, references: np.ndarray, frame: Frame, wanted: int
) -> Int[np.ndarray, "queries wanted"]:
    number, size = queries.shape
    bound = Bound.of(size, np.float64)
    moved = np.empty((number, size))
    squares = frame.move(queries, moved)
    lengths, tau = np.sqrt(squares), bound.tau(squares)[:, None]
    best = np.full((number, wanted), -np.inf)  # lower bounds, the largest so far
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # row, index and upper bound of candidates
    for start in range(0, len(references), _REFERENCES):
        part = references[start : start + _REFERENCES]
        others = np.empty((len(part), size))
        halves = frame.move(part, others) / 2
        scores = moved @ others.T - halves
        errors = bound.kappa * (np.outer(lengths, np.sqrt(2 * halves)) + halves) + tau
        best = np.concatenate([best, scores - errors], axis=1)
        best = np.partition(best, best.shape[1] - wanted, axis=1)[:, -wanted:]
        uppers = np.add(scores, errors, out=scores)
        rows, indices = np.nonzero(uppers >= best.min(axis=1)[:, None])
        kept.append((rows, indices + start, uppers[rows, indices]))
    rows, indices, uppers = (np.concatenate(parts) for parts in zip(*kept))
    near = uppers >= best.min(axis=1)[rows]
    rows, indices = rows[near], indices[near]
    order = np.lexsort((indices, squared_distances(queries, references, rows, indices), rows))
    # Rows have `wanted` candidates or more, side by side in the order; the first of each are its nearest.
    begins = np.searchsorted(rows[order], np.arange(number))
    return indices[order][begins[:, None] + np.arange(wanted)].astype(np.int32)
