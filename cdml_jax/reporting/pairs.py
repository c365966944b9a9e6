"""Which pairs of classes are confused most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cdml_jax.reporting import figures
from cdml_jax.reporting.matrices import call_rates
from cdml_jax.reporting.results import RunResult, by_row
from cdml_jax.top_confusions import TopConfusions

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


def confused_pairs_of(counts: np.ndarray | TopConfusions, number: int = _PAIRS) -> list[ConfusedPair]:
    """The ordered pairs of classes confused most, by the share of the first's images.

    Args:
      counts: (C, C); [i, j] = images of class i called j. Or `TopConfusions`, whose counters may fall short.
      number: how many at most; pairs that are never confused are left out.

    Returns:
      The pairs with their rates, the highest first, ties by index.

    >>> confused_pairs_of(np.array([[3, 1], [0, 4]]))
    [ConfusedPair(true=0, called=1, rate=0.25)]
    """
    if isinstance(counts, TopConfusions):
        true, counter = np.nonzero(counts.values)
        called = counts.indices[true, counter]
        found = counts.values[true, counter] / (counts.errors + counts.correct)[true]
    else:
        rates = call_rates(counts)
        np.fill_diagonal(rates, 0.0)
        true, called = np.nonzero(np.nan_to_num(rates))
        found = rates[true, called]
    chosen = np.lexsort([called, true, -found])[:number]
    return [ConfusedPair(int(true[k]), int(called[k]), float(found[k])) for k in chosen]
