"""What else a table shows of each method: intervals over images, corrected p-values, confused pairs, work."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cdml_jax.reporting.comparison import CONFIDENCE, DRAWS, FEWEST, compare, paired_p_value, points
from cdml_jax.reporting.markdown import markdown_table
from cdml_jax.reporting.pairs import confused_pairs
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import Table

if TYPE_CHECKING:
    from jaxtyping import Float

_PAIRS = 20
_CAPTION = """\
Difference to the baseline in points. p: Student's paired test over seeds, corrected for the number of
methods by Holm's procedure. Interval over images: {confidence:.0%}, by bootstrap over the test images
of the mean over common seeds; it shows what other images would give, the seeds show what other
trainings would. Error of pairs: share of the test images of the {pairs} most confused pairs' first
classes that are called the second, the pairs chosen by the baseline's validation confusion. Minutes of
training, as they were on the machines used. Updates of the parameters from each batch, and operations of
a training step over the baseline's, as XLA counts them before it optimises; behind a frozen front those
of what is trained."""


def further_table(table: Table) -> str:
    """Each method against the baseline: p over seeds, interval over images, errors of the worst pairs, work.

    Args:
      table: results of all methods and seeds; a dash stands where something was not kept or is not defined.

    Returns:
      A Markdown table with its notes below; "" without a baseline.
    """
    if not table.has_baseline:
        return ""
    chosen = [(pair.true, pair.called) for pair in confused_pairs(table, _PAIRS)]
    p_values = {method: _p_value(table, method) for method in table.compared}
    corrected = dict(zip(p_values, holm(list(p_values.values()))))
    rows = []
    for method, title in table.titles.items():
        over_seeds = over_images = p_value = "–"
        if method in table.compared:
            p_value, over_images = _probability(corrected[method]), _interval(table, method)
            over_seeds = points(compare(table, method).mean) if table.pairs(method) else "–"
        minutes = [result.seconds / 60 for result in table.runs[method].values()]
        confused = [100 * error_of_pairs(result, chosen) for result in table.runs[method].values()]
        rows.append(
            [
                title,
                over_seeds,
                p_value,
                over_images,
                _mean(confused),
                f"{np.mean(minutes):.1f}",
                _updates(table, method),
                _over_baseline(table, method),
            ],
        )
    header = [
        "method",
        "difference",
        "p over seeds",
        "interval over images",
        f"error of {len(chosen)} pairs %",
        "minutes",
        "updates",
        "operations",
    ]
    caption = textwrap.fill(_CAPTION.format(confidence=CONFIDENCE, pairs=len(chosen)), 96)
    return f"{markdown_table(header, rows, 'l' + 'r' * (len(header) - 1))}\n{caption}\n"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, so that all tests together are wrong as rarely as one.

    The k-th smallest of m is multiplied by m - k + 1, and none comes below a smaller one. NaN stays NaN and
    does not count.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statistics, 1979.
    """
    values = np.asarray(p_values, float)
    found = np.full(values.shape, math.nan)
    order = [place for place in np.argsort(values, kind="stable") if not math.isnan(values[place])]
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[place]))
        found[place] = largest
    return [round(float(value), 12) for value in found]


def interval_over_images(gains: Float[np.ndarray, " images"], *, seed: int = 0) -> tuple[float, float]:
    """Ends of the bootstrap interval of the mean of images' gains, in points.

    Images are drawn with replacement, as many as there are, `DRAWS` times. A draw of images is one of how
    many have each of the few values that gains take, which is multinomial.

    Args:
      gains: of each image: of the seeds, the share in which it was called rightly by a method, minus the
        baseline's.
      seed: of the draws.
    """
    values, counts = np.unique(gains, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(gains), counts / len(gains), DRAWS)
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(100.0 * (drawn @ values) / len(gains), (tail, 100.0 - tail))
    return float(low), float(high)


def error_of_pairs(result: RunResult, pairs: Sequence[tuple[int, int]]) -> float:
    """Share of the test images of pairs' first classes that are called the second; NaN without images."""
    if not pairs:
        return math.nan
    first, second = np.array(pairs).T
    images = result.test_counts[first].sum()
    return float(result.test_counts[first, second].sum() / images) if images else math.nan


def _p_value(table: Table, method: str) -> float:
    accuracies = [
        [np.trace(result.test_counts) / result.test_counts.sum() for result in pair]
        for pair in table.pairs(method).values()
    ]
    if len(accuracies) < FEWEST:
        return math.nan
    ours, theirs = np.array(accuracies).T
    if np.ptp(ours - theirs) < 1e-12:
        return math.nan
    return paired_p_value(ours - theirs)


def _updates(table: Table, method: str) -> str:
    known = {result.updates for result in table.runs[method].values() if result.updates is not None}
    return ", ".join(map(str, sorted(known))) or "–"


def _over_baseline(table: Table, method: str) -> str:
    """Operations of a method's step over those of the baseline's."""
    ours, theirs = (
        [result.operations for result in table.runs[name].values() if math.isfinite(result.operations)]
        for name in (method, table.baseline)
    )
    return f"{np.mean(ours) / np.mean(theirs):.2f}" if ours and theirs else "–"


def _interval(table: Table, method: str) -> str:
    gains = []
    for ours, theirs in table.pairs(method).values():
        if ours.test is None or theirs.test is None:
            return "–"
        rights = [seen.top_classes[:, 0] == seen.labels for seen in (ours.test, theirs.test)]
        gains.append(rights[0].astype(float) - rights[1])
    if not gains:
        return "–"
    low, high = interval_over_images(np.mean(gains, axis=0))
    return f"[{points(low)}, {points(high)}]"


def _probability(p_value: float) -> str:
    if math.isnan(p_value):
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{np.mean(known):.2f}" if known else "–"
