"""Draws without replacement in proportion to weights, on the host: how often each candidate is among them.

Source: B. Rosén, "Asymptotic theory for successive sampling with varying probabilities without replacement",
Ann. Math. Statist. 43 (1972).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Num

CELLS = 1 << 15  # of a matrix, looked at together: they stay in a processor's cache


def inclusion(
    weights: Float[np.ndarray, "rows candidates"],
    copies: Num[np.ndarray, "rows candidates"] | int,
    number: int,
) -> Float[np.ndarray, "rows candidates"]:
    """Probability that a candidate is among `number` drawn without replacement ∝ each row of weights.

    Args:
      weights: one row a draw.
      copies: how many candidates of that weight a weight stands for.
      number: candidates drawn.

    >>> inclusion(np.array([[1.0, 3.0]]), 1, 1).tolist()
    [[0.25, 0.75]]
    """
    totals = (weights * copies).sum(axis=1, keepdims=True)
    chances = weights / np.where(totals > 0, totals, 1)
    if number <= 1:
        return chances * number
    available = (copies * (weights > 0)).sum(axis=1, keepdims=True)
    # Rosén: 1 − exp(−p t), with t such that they sum to the number drawn; Newton in log t, kept in a bracket.
    low, high = np.full_like(totals, -10.0), np.full_like(totals, 60.0)  # (rows, 1), as all that follow
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
    # With no more candidates than are drawn, all of them are.
    return np.where(available <= number, (weights > 0) * 1.0, included)


def distinct_places(
    draws: np.random.Generator, rows: int, among: int, number: int
) -> Int[np.ndarray, "rows number"]:
    """`number` of `among` places in each row, uniform without replacement, in the order drawn."""
    places = np.empty((rows, number), np.int64)
    for k in range(number):
        # One of those left, counted past the places that were drawn before it.
        place = draws.integers(0, among - k, rows)
        for earlier in np.sort(places[:, :k], axis=1).T:
            place += place >= earlier
        places[:, k] = place
    return places
