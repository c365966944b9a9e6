"""Groups of confusing classes for a plan of batches, on the host, and how often each class is in one.

Pair weights are a matrix, or `TopPairWeights`, of which no matrix is made.

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image
Classification", MMM 2018; the composition of batches is this library's.
"""

from __future__ import annotations

import numpy as np

from cdml_jax.top_confusions import TopPairWeights

_CELLS = 1 << 15  # of a matrix, looked at together: they stay in a processor's cache


def draw_groups(
    draws: np.random.Generator,
    rates: np.ndarray,
    pairs: np.ndarray | TopPairWeights,
    present: np.ndarray,
    steps: int,
    size: int,
) -> np.ndarray:
    """(steps, size) classes: an anchor ∝ rates, others ∝ its pairs without replacement; −1 for none.

    Others are the first to ring in a race of exponential clocks: that is a draw without replacement.
    """
    cumulative = np.cumsum(rates)
    anchors = np.searchsorted(cumulative, draws.random(steps) * cumulative[-1], side="right")
    anchors = np.minimum(anchors, np.flatnonzero(rates)[-1])
    groups = np.full((steps, size), -1, np.int64)
    groups[:, 0] = anchors
    if size > 1:
        others = _others_of_top if isinstance(pairs, TopPairWeights) else _others_of_matrix
        for step, found in enumerate(others(draws, pairs, present, anchors, size - 1)):
            groups[step, 1 : 1 + len(found)] = found
    return groups


def joined(
    anchors: np.ndarray, pairs: np.ndarray | TopPairWeights, present: np.ndarray, number: int
) -> np.ndarray:
    r"""(C,): how often each class is among the `number` others of a group whose anchor is drawn ∝ anchors.

    .. math:: \sum_i \text{anchors}_i \Pr(j \text{ among the others of } i)

    The probabilities are Rosén's approximation for successive sampling, 1 − exp(−p t).
    """
    if isinstance(pairs, TopPairWeights):
        return _joined_of_top(anchors, pairs, present, number)
    result = np.zeros(anchors.size)
    rows = max(_CELLS // anchors.size, 1)
    for begin in range(0, anchors.size, rows):
        chances = _masked_rows(pairs, present, np.arange(begin, min(begin + rows, anchors.size)))
        result += anchors[begin : begin + rows] @ _inclusion(chances, 1, number)
    return result


def _masked_rows(pairs: np.ndarray, present: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of the matrix in float64, 0 on the diagonal and for classes without images."""
    weights = pairs[rows] * present.astype(np.float64)
    weights[np.arange(rows.size), rows] = 0
    return weights


def _masked_excess(pairs: TopPairWeights, present: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
    """Excess of the rows in float64, 0 for classes without images."""
    indices = pairs.indices[rows]
    return np.where((indices >= 0) & present[indices], pairs.excess[rows], 0).astype(np.float64)


def _others_of_matrix(draws, pairs, present, anchors, number):
    for anchor in anchors:
        weights = _masked_rows(pairs, present, np.array([anchor]))[0]
        candidates = np.flatnonzero(weights)
        rings = draws.exponential(size=candidates.size) / weights[candidates]
        yield candidates[np.argsort(rings, kind="stable")[:number]]


def _others_of_top(draws, pairs, present, anchors, number):
    """Two clocks a class: one of its excess, one of the rest, of which only the first rings are drawn."""
    excess = _masked_excess(pairs, present, anchors)
    classes = np.flatnonzero(present)
    among = classes.size - 1
    first = min(number, among)
    rest = np.asarray(pairs.rest, np.float64)[anchors][:, None]
    with np.errstate(divide="ignore"):
        rings = draws.exponential(size=excess.shape) / excess
        gaps = draws.exponential(size=(anchors.size, first)) / (rest * (among - np.arange(first)))
    places = _distinct_places(draws, anchors.size, among, first)
    places += places >= np.searchsorted(classes, anchors)[:, None]
    times = np.concatenate([rings, np.cumsum(gaps, axis=1)], axis=1)
    candidates = np.concatenate([pairs.indices[anchors], classes[places]], axis=1)
    # A class may ring twice: twice as many rings are enough.
    order = np.argsort(times, axis=1, kind="stable")[:, : 2 * number]
    rung = np.isfinite(np.take_along_axis(times, order, axis=1))
    in_order = np.take_along_axis(candidates, order, axis=1)
    for found, counts in zip(in_order, rung):
        yield list(dict.fromkeys(found[counts].tolist()))[:number]


def _distinct_places(draws: np.random.Generator, rows: int, among: int, number: int) -> np.ndarray:
    """(rows, number) of `among` places, uniform without replacement, in the order drawn."""
    places = np.empty((rows, number), np.int64)
    for k in range(number):
        place = draws.integers(0, among - k, rows)
        for earlier in np.sort(places[:, :k], axis=1).T:
            place += place >= earlier
        places[:, k] = place
    return places


def _joined_of_top(
    anchors: np.ndarray, pairs: TopPairWeights, present: np.ndarray, number: int
) -> np.ndarray:
    """As `joined`: a class's own excess beside what it shares with all others."""
    result = np.zeros(anchors.size)
    among = int(present.sum()) - 1
    rows = max(_CELLS // pairs.indices.shape[1], 1)
    for begin in range(0, anchors.size, rows):
        part = slice(begin, begin + rows)
        excess = _masked_excess(pairs, present, part)
        listed = excess > 0
        rest = np.asarray(pairs.rest[part], np.float64)[:, None]
        chances = np.concatenate([np.where(listed, excess + rest, 0), rest], axis=1)
        copies = np.ones_like(chances)
        copies[:, -1] = np.maximum(among - listed.sum(axis=1), 0)
        included = _inclusion(chances, copies, number)
        by_rest = anchors[part] * included[:, -1]
        result += by_rest.sum()
        result[part] -= by_rest
        more = anchors[part, None] * (included[:, :-1] - included[:, -1:])
        np.add.at(result, pairs.indices[part][listed], more[listed])
    return result * present


def _inclusion(weights: np.ndarray, copies: np.ndarray | int, number: int) -> np.ndarray:
    """Probability that a candidate is among `number` drawn without replacement ∝ each row of weights.

    A weight stands for `copies` candidates of that weight.
    """
    totals = (weights * copies).sum(axis=1, keepdims=True)
    chances = weights / np.where(totals > 0, totals, 1)
    if number <= 1:
        return chances * number
    available = (copies * (weights > 0)).sum(axis=1, keepdims=True)
    # Rosén: 1 − exp(−p t), with t such that they sum to the number drawn; Newton in log t, kept in a bracket.
    low, high = np.full_like(totals, -10.0), np.full_like(totals, 60.0)
    guess = np.full_like(totals, np.log(number))
    included = weights
    for _ in range(60):
        rate = chances * np.exp(guess)
        missed = np.exp(-rate)
        included = 1 - missed
        excess = (copies * included).sum(axis=1, keepdims=True) - number
        slope = (copies * rate * missed).sum(axis=1, keepdims=True)
        low, high = np.where(excess < 0, guess, low), np.where(excess < 0, high, guess)
        if (np.abs(excess) < 1e-9 * number)[available > number].all():
            break
        newton = guess - excess / np.where(slope > 0, slope, 1)
        guess = np.where((slope > 0) & (low < newton) & (newton < high), newton, (low + high) / 2)
    return np.where(available <= number, (weights > 0) * 1.0, included)
