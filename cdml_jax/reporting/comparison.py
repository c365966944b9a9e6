"""What the seeds say of two methods: a figure's paired difference, its interval, and one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes seconds to import

from cdml_jax.confusion.figures import accuracy
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import Table

CONFIDENCE = 0.95
"""Of intervals by bootstrap over images."""
DRAWS = 10_000
"""Of the bootstrap."""
FEWEST = 3
"""Seeds below which no interval is given: with two, t = 12.7, and a deviation has one degree of freedom."""


class Comparison(NamedTuple):
    """A method against the baseline, in points, paired by seed; without an interval its ends are NaN."""

    method: str
    seeds: tuple[int, ...]  # in which both have the figure
    mean: float
    low: float
    high: float

    @property
    def no_interval(self) -> str:
        """Why there is no interval, in words; "" where there is one."""
        number = len(self.seeds)
        if number == 1:
            return "one seed"
        if number < FEWEST:
            return f"{number} seeds"
        return "no spread" if self.high - self.low < 1e-9 else ""


def paired_interval(
    differences: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of paired differences and Student's interval: d̄ ± t_{n−1, (1+c)/2} · sd(d) / √n.

    Args:
      differences: (n,) one difference per pair.
      confidence: c, in (0, 1).

    Returns:
      (mean, low, high) in the unit of the differences; low and high are NaN for fewer than `FEWEST`
      pairs, all three for none.

    Raises:
      ValueError: `confidence` outside (0, 1).

    >>> mean, low, high = paired_interval([1.0, 2.0, 3.0])
    >>> print(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
    2.00 [-0.48, 4.48]
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    if len(values) < FEWEST:
        return mean, math.nan, math.nan
    half = stdtrit(len(values) - 1, (1.0 + confidence) / 2.0) * values.std(ddof=1) / math.sqrt(len(values))
    return mean, mean - float(half), mean + float(half)


def paired_p_value(differences: Sequence[float] | np.ndarray) -> float:
    """Student's two-sided p of paired differences with mean 0: 2 P(T_{n−1} < −|d̄| √n / sd(d)).

    Args:
      differences: (n,) one per pair, not all equal.

    >>> f"{paired_p_value([1.0, 2.0, 3.0]):.3f}"
    '0.074'
    """
    values = np.asarray(differences, dtype=np.float64)
    t = values.mean() / (values.std(ddof=1) / math.sqrt(len(values)))
    return 2.0 * float(stdtr(len(values) - 1, -abs(t)))


def top_1(result: RunResult) -> float:
    """Share of the test images called rightly."""
    return accuracy(result.test_counts)


def compare(table: Table, method: str, *, figure: Callable[[RunResult], float] = top_1) -> Comparison:
    """A method's figure minus the baseline's, in points, over the seeds in which both have it.

    Args:
      table: results of all methods and seeds.
      method: the one to compare.
      figure: a share in [0, 1] of a result, by default of the test images called rightly; NaN for none.

    Returns:
      The comparison; without a common seed its figures are NaN.
    """
    differences = {
        seed: 100.0 * (figure(ours) - figure(theirs)) for seed, (ours, theirs) in table.pairs(method).items()
    }
    known = {seed: value for seed, value in differences.items() if not math.isnan(value)}
    return Comparison(method, tuple(known), *paired_interval(list(known.values())))


def verdict(comparison: Comparison, title: str, *, baseline_title: str = "the baseline") -> str:
    """One sentence that says what the interval shows, and no more.

    Args:
      comparison: from `compare`.
      title: the method's name in the sentence.
      baseline_title: the name of what it is compared with.

    Returns:
      The sentence.
    """
    _, seeds, mean, low, high = comparison
    if not seeds:
        return f"{title} has no seed in common with {baseline_title}: nothing can be compared."
    start = f"{title}: {points(mean)} points against {baseline_title}"
    if len(seeds) == 1:
        return f"{start}, one seed: no interval, so this shows nothing either way."
    if len(seeds) < FEWEST:
        return f"{start} over {len(seeds)} seeds: too few for an interval, so this shows nothing either way."
    if comparison.no_interval:
        return f"{start} in each of {len(seeds)} seeds: no spread, so no interval can be built on it."
    interval = f"95 % interval [{points(low)}, {points(high)}] over {len(seeds)} seeds"
    if low > 0.0:
        return f"{start}, {interval}: clear of zero, better."
    if high < 0.0:
        return f"{start}, {interval}: clear of zero, worse."
    return f"{start}, {interval}: not clear of zero, so no difference is shown."


def points(value: float) -> str:
    """A difference in points, signed.

    >>> points(-0.001), points(2.345)
    ('+0.00', '+2.35')
    """
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: never "-0.00"
