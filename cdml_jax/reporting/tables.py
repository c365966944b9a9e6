"""Tables that read well as Markdown and in a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cdml_jax.confusion.figures import accuracy, mean_class_error
from cdml_jax.reporting import answers
from cdml_jax.reporting.comparison import FEWEST, Comparison, compare, points
from cdml_jax.reporting.markdown import markdown_table
from cdml_jax.reporting.provenance import differences
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import Table

_EMBEDDINGS_CAPTION = (
    "Each test image is sought among the others by its embedding, of length 1; {spread}\n"
    "differences as above. NMI: of the classes and as many k-means clusters. features are what the\n"
    "classifier reads, a projection is what the embedding head makes of them.\n"
)
_ANSWERS_CAPTION = (
    "Top-5: the class is among the five likeliest. Macro F1: the mean over the classes. Calibration error:\n"
    "how far probabilities are from shares of right answers, in 15 bins (Guo et al., ICML 2017).\n"
)
_MIXED = (
    "The methods' embeddings differ in kind: without triplets a projection stays as it was drawn, so the\n"
    "features are measured there.\n"
)


def methods_table(table: Table, *, paper: Mapping[str, float] | None = None) -> str:
    """The table of methods: test accuracy, its paired difference to the baseline, mean class error.

    Args:
      table: results of all methods and seeds.
      paper: method -> the paper's top-1 %, only where the data set is the paper's.

    Returns:
      A Markdown table, padded so that it reads well in a terminal, with its notes below.
    """
    header = ["method", "seeds", "top-1 %", "difference [95 %]", "class error %", "steps"]
    lines, notes = [], []
    for method, title in table.titles.items():
        seeds = table.runs[method]
        line = [
            title,
            str(len(seeds)),
            spread([100.0 * accuracy(result.test_counts) for result in seeds.values()]),
            "–",
            spread([100.0 * mean_class_error(result.test_counts) for result in seeds.values()]),
            _range([result.steps for result in seeds.values()]),
        ]
        if method in table.compared:
            comparison = compare(table, method)
            line[3] = difference_cell(comparison)
            if set(seeds) != set(table.runs[table.baseline]):
                common = ", ".join(map(str, comparison.seeds)) or "none"
                notes.append(f"{title}: its seeds are not the baseline's; seeds in both: {common}.")
        lines.append(line)
    if paper:
        header.append("paper %")
        for line, method in zip(lines, table.titles, strict=True):
            line.append(_paper_cell(paper, method, table.baseline))
    if len({result.steps for result in table.results}) > 1:
        notes.append("The methods did not all take the same number of steps: the longer ones are favoured.")
    differ = differences(result.provenance for result in table.results)
    if differ:
        notes.append(f"The runs were not all made alike: {differ}.")
    text = markdown_table(header, lines, "lr" + "r" * (len(header) - 2))
    return text + "\n" + _caption(table) + "".join(f"{note}\n" for note in notes)


def _caption(table: Table) -> str:
    """What the figures of `methods_table` are, and where seeds are too few for some of them."""
    sizes = {int(result.test_counts.sum()) for result in table.results}
    images = f"{sizes.pop():,} test images" if len(sizes) == 1 else "Test images"
    numbers = {len(seeds) for seeds in table.runs.values()}
    figures = {
        "mean ± standard deviation over seeds": max(numbers) >= FEWEST,
        "of two seeds the mean and both figures": 2 in numbers,
    }
    lines = [f"{images}; {', '.join(words for words, used in figures.items() if used) or 'one seed'}."]
    pairs = {len(table.pairs(method)) for method in table.compared} - {0}
    if pairs:
        interval = max(pairs) >= FEWEST
        lines.append("Difference to the baseline in points, paired by seed" + (", with" if interval else "."))
        if interval:
            lines.append("Student's 95 % interval, not corrected for the number of methods.")
    lines += [
        f"{few} {'seed is' if few == 1 else 'seeds are'} too few for an interval."
        for few in sorted(pairs)
        if few < FEWEST
    ]
    return textwrap.fill(" ".join(lines), 96) + "\n"


def embeddings_table(table: Table) -> str:
    """How well each method's embeddings of the test images retrieve their class.

    Args:
      table: results of all methods and seeds; those without figures of embeddings show a dash.

    Returns:
      A Markdown table with its notes below, as `methods_table`.
    """
    lines, kinds = [], set()
    for method, title in table.titles.items():
        runs = list(table.runs[method].values())
        embedding = " and ".join(sorted({run.embeddings.embedding for run in runs if run.embeddings}))
        kinds.add(embedding)
        line = [title, embedding or "–"]
        for figure in (recall_at_1, map_at_r):
            line.append(spread_of(runs, figure))
            comparison = compare(table, method, figure=figure) if method in table.compared else None
            line.append(difference_cell(comparison) if comparison and comparison.seeds else "–")
        lines.append([*line, spread_of(runs, r_precision), spread_of(runs, nmi)])
    difference = "difference [95 %]"
    header = [
        "method",
        "embedding",
        "Recall@1 %",
        difference,
        "mAP@R %",
        difference,
        "R-precision %",
        "NMI %",
    ]
    several = max(map(len, table.runs.values())) >= FEWEST
    caption = _EMBEDDINGS_CAPTION.format(spread="mean ± deviation," if several else "figures and")
    caption += _MIXED if len(kinds - {""}) > 1 else ""
    for method, title in table.titles.items():
        warnings = [run.embeddings.warning for run in table.runs[method].values() if run.embeddings]
        found = list(filter(None, warnings))
        if found:
            caption += f"{title}, {len(found)} of {len(warnings)} runs: {found[0]}.\n"
    return markdown_table(header, lines, "ll" + "r" * (len(header) - 2)) + "\n" + caption


def answers_table(table: Table, costs: np.ndarray | None = None) -> str:
    """How good each method's answers to the test images are beyond the first: top-5, macro F1, calibration.

    Args:
      table: results of all methods and seeds; a dash stands where answers were not kept.
      costs: (C, C) of calling an image of class i class j, for the expected cost; None leaves it out.

    Returns:
      A Markdown table with its notes below, as `methods_table`.
    """
    figures = (answers.top_5, answers.macro_f1, answers.calibration)
    header = ["method", "top-5 %", "macro F1 %", "calibration error %"]
    header += ["expected cost"] if costs is not None else []
    lines = []
    for method, title in table.titles.items():
        runs = list(table.runs[method].values())
        line = [title, *(spread_of(runs, figure) for figure in figures)]
        if costs is not None:
            line.append(spread([answers.expected_cost(run.test_counts, costs) for run in runs]))
        lines.append(line)
    return markdown_table(header, lines, "l" + "r" * (len(header) - 1)) + "\n" + _ANSWERS_CAPTION


def recall_at_1(result: RunResult) -> float:
    """Share of the test images whose nearest other is of their class; NaN if it was not measured."""
    return result.embeddings.retrieval.recall[1] if result.embeddings else math.nan


def map_at_r(result: RunResult) -> float:
    """Mean average precision at R of the test images' embeddings; NaN if it was not measured."""
    return result.embeddings.retrieval.map_at_r if result.embeddings else math.nan


def r_precision(result: RunResult) -> float:
    """R-precision of the test images' embeddings; NaN if it was not measured."""
    return result.embeddings.retrieval.r_precision if result.embeddings else math.nan


def nmi(result: RunResult) -> float:
    """Normalised mutual information of test classes and clusters; NaN if it was not measured."""
    return result.embeddings.nmi if result.embeddings else math.nan


def spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.2f}"
    if len(values) == 1:
        return mean
    if len(values) < FEWEST:
        return f"{mean} ({', '.join(f'{value:.2f}' for value in values)})"
    return f"{mean} ± {np.std(values, ddof=1):.2f}"


def spread_of(runs: Sequence[RunResult], figure: Callable[[RunResult], float]) -> str:
    known = [100.0 * value for value in map(figure, runs) if not math.isnan(value)]
    return spread(known) if known else "–"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def difference_cell(comparison: Comparison) -> str:
    if not comparison.seeds:
        return "no common seed"
    if comparison.no_interval:
        return f"{points(comparison.mean)} ({comparison.no_interval})"
    return f"{points(comparison.mean)} [{points(comparison.low)}, {points(comparison.high)}]"


def _paper_cell(paper: Mapping[str, float], method: str, baseline: str) -> str:
    if method not in paper:
        return "–"
    gain = f" ({points(paper[method] - paper[baseline])})" if method != baseline and baseline in paper else ""
    return f"{paper[method]:.2f}{gain}"
