"""Tables that read well as Markdown and in a terminal, with honest intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cdml_jax.metrics import accuracy, mean_class_error
from cdml_jax.reporting.results import RunResult, by_row


class Comparison(NamedTuple):
    """A row against the baseline, in points of test accuracy, paired by seed."""

    row: str
    seeds: tuple[int, ...]  # that both have
    mean: float
    low: float
    high: float


def paired_interval(
    differences: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of paired differences and Student's interval: d̄ ± t_{n−1, (1+c)/2} · sd(d) / √n.

    Args:
      differences: (n,) one difference per pair.
      confidence: c, in (0, 1).

    Returns:
      (mean, low, high) in the unit of the differences; low and high are NaN for one pair, all three for none.

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
    if len(values) == 1:
        return mean, math.nan, math.nan
    half = (
        stats.t.ppf((1.0 + confidence) / 2.0, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    )
    return mean, mean - float(half), mean + float(half)


def compare(results: Iterable[RunResult], row: str, *, baseline: str = "baseline") -> Comparison:
    """A row's test accuracy minus the baseline's, in points, over the seeds that both have.

    Args:
      results: results of all rows and seeds.
      row: the row to compare.
      baseline: the row to compare it with.

    Returns:
      The comparison; without a common seed its figures are NaN.
    """
    rows = by_row(results)
    ours, theirs = rows.get(row, {}), rows.get(baseline, {})
    seeds = tuple(seed for seed in ours if seed in theirs)
    differences = [
        100.0 * (accuracy(ours[seed].test_counts) - accuracy(theirs[seed].test_counts)) for seed in seeds
    ]
    return Comparison(row, seeds, *paired_interval(differences))


def verdict(comparison: Comparison, title: str, *, baseline_title: str = "the baseline") -> str:
    """One sentence that says what the interval shows, and no more.

    Args:
      comparison: from `compare`.
      title: the row's name in the sentence.
      baseline_title: the name of what it is compared with.

    Returns:
      The sentence.
    """
    _, seeds, mean, low, high = comparison
    if not seeds:
        return f"{title} has no seed in common with {baseline_title}: nothing can be compared."
    start = f"{title}: {_points(mean)} points against {baseline_title}"
    if len(seeds) == 1:
        return f"{start}, one seed: no interval, so this shows nothing either way."
    if high - low < 1e-9:
        return f"{start} in each of {len(seeds)} seeds: no spread, so no interval can be built on it."
    interval = f"95 % interval [{_points(low)}, {_points(high)}] over {len(seeds)} seeds"
    if low > 0.0:
        return f"{start}, {interval}: clear of zero, better."
    if high < 0.0:
        return f"{start}, {interval}: clear of zero, worse."
    return f"{start}, {interval}: not clear of zero, so no difference is shown."


def ordered_rows(present: Iterable[str], row_titles: Mapping[str, str]) -> dict[str, str]:
    """Row -> title for the rows present: in the order of `row_titles`, then the others by their own names.

    >>> ordered_rows(["cdml", "odd", "baseline"], {"baseline": "baseline", "ws": "WS", "cdml": "CDML"})
    {'baseline': 'baseline', 'cdml': 'CDML', 'odd': 'odd'}
    """
    present = list(present)
    ordered = {row: title for row, title in row_titles.items() if row in present}
    return ordered | {row: row for row in present if row not in ordered}


def methods_table(
    results: Iterable[RunResult],
    *,
    row_titles: Mapping[str, str],
    baseline: str = "baseline",
    paper: Mapping[str, float] | None = None,
) -> str:
    """The table of methods: test accuracy, its paired difference to the baseline, mean class error.

    Args:
      results: results of all rows and seeds.
      row_titles: row -> name to print; also the order of the lines.
      baseline: the row that the others are compared with; it may be absent.
      paper: row -> the paper's top-1 %, only where the data set is the paper's.

    Returns:
      A Markdown table, padded so that it reads well in a terminal, with its notes below.
    """
    results = list(results)
    rows = by_row(results)
    titles = ordered_rows(rows, row_titles)
    header = ["method", "seeds", "top-1 %", "difference [95 %]", "class error %", "steps"]
    lines, notes = [], []
    for row, title in titles.items():
        seeds = rows[row]
        line = [
            title,
            str(len(seeds)),
            _spread([100.0 * accuracy(result.test_counts) for result in seeds.values()]),
            "–",
            _spread([100.0 * mean_class_error(result.test_counts) for result in seeds.values()]),
            _range([result.steps for result in seeds.values()]),
        ]
        if row != baseline and baseline in rows:
            comparison = compare(results, row, baseline=baseline)
            line[3] = _difference(comparison)
            if set(seeds) != set(rows[baseline]):
                common = ", ".join(map(str, comparison.seeds)) or "none"
                notes.append(f"{title}: its seeds are not the baseline's; seeds in both: {common}.")
        lines.append(line)
    if paper:
        header.append("paper %")
        for line, row in zip(lines, titles, strict=True):
            line.append(_paper_cell(paper, row, baseline))
    if len({result.steps for result in results}) > 1:
        notes.append("The rows did not all take the same number of steps: the longer ones are favoured.")
    table = markdown_table(header, lines, "lr" + "r" * (len(header) - 2))
    caption = (
        "Test images; mean ± standard deviation over seeds. Difference to the baseline in points,\n"
        "paired by seed, with Student's 95 % interval, not corrected for the number of rows.\n"
    )
    return table + "\n" + caption + "".join(f"{note}\n" for note in notes)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A Markdown table whose columns are padded to line up in monospace.

    Args:
      header: one name per column.
      rows: one cell per column each.
      align: one letter per column, "l" or "r".

    Returns:
      The table, ending in a newline.

    >>> print(markdown_table(["bird", "n"], [["wren", "12"], ["tit", "3"]], "lr"), end="")
    | bird |  n |
    |:-----|---:|
    | wren | 12 |
    | tit  |  3 |
    """
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        ]
        lines.append("| " + " | ".join(padded) + " |")
    rule = [
        ":" + "-" * (width + 1) if side == "l" else "-" * (width + 1) + ":"
        for width, side in zip(widths, align, strict=True)
    ]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(lines) + "\n"


def _points(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: never "-0.00"


def _spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.2f}"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _difference(comparison: Comparison) -> str:
    if not comparison.seeds:
        return "no common seed"
    if len(comparison.seeds) == 1:
        return f"{_points(comparison.mean)} (one seed)"
    return f"{_points(comparison.mean)} [{_points(comparison.low)}, {_points(comparison.high)}]"


def _paper_cell(paper: Mapping[str, float], row: str, baseline: str) -> str:
    if row not in paper:
        return "–"
    gain = f" ({_points(paper[row] - paper[baseline])})" if row != baseline and baseline in paper else ""
    return f"{paper[row]:.2f}{gain}"
