"""Which pairs of classes are confused most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cdml_jax.confusion import Confusion, as_confusion
from cdml_jax.reporting import figures
from cdml_jax.reporting.results import RunResult, by_row

_PAIRS = 10


class ConfusedPair(NamedTuple):
    """An ordered pair of classes, and the share of the first's images that are called the second."""

    true: int
    called: int
    rate: float


def confused_pairs(
    results: Iterable[RunResult], number: int = _PAIRS, *, baseline: str = "baseline"
) -> list[ConfusedPair]:
    """The ordered pairs that the baseline confuses most on the VALIDATION split, seeds summed.

    As with the subcategories, the test split has no say in the choice.

    Args:
      results: results of all rows and seeds.
      number: how many at most; pairs that are never confused are left out.
      baseline: the row that chooses.

    Returns:
      The pairs with their validation rates, the highest first, ties by index; none without the baseline.
    """
    runs = by_row(results).get(baseline)
    if not runs:
        return []
    return confused_pairs_of(figures.sum_counts(runs.values(), "validation_counts"), number)


def confused_pairs_of(counts: np.ndarray | Confusion, number: int = _PAIRS) -> list[ConfusedPair]:
    """The ordered pairs of classes confused most, by the share of the first's images.

    Args:
      counts: (C, C); [i, j] = images of class i called j. Or another form, whose counts may fall short.
      number: how many at most; pairs that are never confused are left out.

    Returns:
      The pairs with their rates, the highest first, ties by index.

    >>> confused_pairs_of(np.array([[3, 1], [0, 4]]))
    [ConfusedPair(true=0, called=1, rate=0.25)]
    """
    found = as_confusion(counts).most_confused(number)
    return [ConfusedPair(int(true), int(called), float(rate)) for true, called, rate in zip(*found)]
