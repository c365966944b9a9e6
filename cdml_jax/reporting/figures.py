"""Pictures of the results: `draw_*` returns the matplotlib Figure, the function beside it saves it as PNG.

matplotlib's object interface only: no pyplot, no global state, no display.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cdml_jax.confusion.figures import class_error
from cdml_jax.reporting.canvas import PAPER_COLOURS, blank, plain, row_colours, save, shortened
from cdml_jax.reporting.diagram import draw_method, method_figure
from cdml_jax.reporting.matrices import confusion_comparison_figure, confusion_figure, draw_confusion
from cdml_jax.reporting.paper import ROW_TITLES
from cdml_jax.reporting.results import RunResult, by_row
from cdml_jax.reporting.tables import ordered_rows

__all__ = [
    "confused_subcategories",
    "confusion_comparison_figure",
    "confusion_figure",
    "draw_confusion",
    "draw_learning_curves",
    "draw_method",
    "draw_misclassification",
    "learning_curves",
    "method_figure",
    "misclassification_figure",
    "sum_counts",
]


def confused_subcategories(
    results: Iterable[RunResult], number: int = 20, *, baseline: str = "baseline"
) -> np.ndarray:
    """The subcategories that the baseline gets wrong most often on the VALIDATION split, seeds summed.

    The test split has no say: choosing its worst would make any second method look better by
    regression to the mean.

    Args:
      results: results of all rows and seeds.
      number: how many to choose; fewer come back where fewer classes have validation images.
      baseline: the row that chooses.

    Returns:
      (≤ number,) class indices, the worst first, ties by index.

    Raises:
      ValueError: no result of the baseline.
    """
    runs = by_row(results).get(baseline)
    if not runs:
        raise ValueError(
            f"no result of row {baseline!r}, whose validation confusion chooses the subcategories"
        )
    rates = class_error(sum_counts(runs.values(), "validation_counts"))
    order = np.argsort(-rates, kind="stable")  # NaN, a class without images, sorts last
    return order[: min(number, int((~np.isnan(rates)).sum()))]


def sum_counts(runs: Iterable[RunResult], name: str = "test_counts") -> np.ndarray:
    """(C, C) counts of several runs added; `name` is "test_counts" or "validation_counts"."""
    return np.sum([getattr(run, name) for run in runs], axis=0)


def draw_misclassification(
    results: Iterable[RunResult],
    class_names: Sequence[str],
    *,
    number: int = 20,
    baseline: str = "baseline",
    rows: Sequence[str] | None = None,
    row_titles: Mapping[str, str] | None = None,
) -> Figure:
    """Bars of TEST misclassification rates (mean over seeds) of the `confused_subcategories`.

    Args:
      results: results of all rows and seeds.
      class_names: (C,) names.
      number: how many subcategories.
      baseline: the row whose validation confusion chooses them.
      rows: which rows, in which order; by default those of the paper that are present.
      row_titles: row -> name in the legend.

    Returns:
      The figure; each row is one bar container, in per cent, in the order of `confused_subcategories`.
      Whiskers run from the lowest to the highest seed.
    """
    results = list(results)
    present, titles = by_row(results), dict(row_titles or ROW_TITLES)
    shown = [row for row in (rows or ROW_TITLES) if row in present]
    chosen = confused_subcategories(results, number, baseline=baseline)
    height = 0.82 / max(len(shown), 1)
    figure = blank(8.0, 1.1 + len(chosen) * max(0.42, 0.1 * len(shown)))
    axes = figure.add_subplot()
    positions = np.arange(len(chosen))
    for k, row in enumerate(shown):
        rates = 100.0 * np.stack([class_error(run.test_counts)[chosen] for run in present[row].values()])
        mean, offset = rates.mean(axis=0), (k - (len(shown) - 1) / 2) * height
        axes.barh(
            positions + offset,
            mean,
            height,
            color=row_colours(present)[row],
            label=titles.get(row, row),
            xerr=np.stack([mean - rates.min(axis=0), rates.max(axis=0) - mean]) if len(rates) > 1 else None,
            error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
        )
    axes.set_yticks(positions, [shortened(class_names[i], 44) for i in chosen], fontsize=9)
    axes.set_ylim(len(chosen) - 0.45, -0.55)
    axes.set_xlim(left=0.0)
    label = "misclassified test images, % (shorter is better; whiskers: lowest to highest seed)"
    axes.set_xlabel(label, fontsize=9)
    plain(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=min(len(shown), 4), frameon=False, fontsize=9)
    return figure


def misclassification_figure(
    results: Iterable[RunResult], class_names: Sequence[str], path: str | Path, **options: Any
) -> Path:
    """Save `draw_misclassification` (same arguments) as PNG; returns the path."""
    return save(draw_misclassification(results, class_names, **options), path)


def draw_learning_curves(
    results: Iterable[RunResult], *, row_titles: Mapping[str, str] | None = None
) -> Figure:
    """Training loss and validation accuracy against the epoch: mean over seeds, lowest to highest as a band.

    Args:
      results: results of all rows and seeds; epochs without a figure are skipped.
      row_titles: row -> name in the legend.

    Returns:
      The figure, loss on the left, validation accuracy in per cent on the right.
    """
    rows = by_row(results)
    titles = ordered_rows(rows, dict(row_titles or ROW_TITLES))
    figure = blank(10.0, 4.2)
    for axes, key, scale, label in zip(
        figure.subplots(1, 2),
        ("loss", "validation_accuracy"),
        (1.0, 100.0),
        ("training loss (each row's own objective)", "validation accuracy, %"),
        strict=True,
    ):
        for k, (row, title) in enumerate(titles.items()):
            epochs, values = _by_epoch(rows[row].values(), key)
            if not epochs:
                continue
            colour, mean = row_colours(rows)[row], [scale * np.mean(value) for value in values]
            style = {"linestyle": "-" if row in PAPER_COLOURS else ("--", ":", "-.")[k % 3]}
            axes.plot(epochs, mean, color=colour, linewidth=1.6, label=title, **style)
            low, high = ([scale * pick(value) for value in values] for pick in (min, max))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        plain(axes, grid="y")
    handles, names = figure.axes[0].get_legend_handles_labels()
    if not handles:
        handles, names = figure.axes[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def learning_curves(results: Iterable[RunResult], path: str | Path, **options: Any) -> Path:
    """Save `draw_learning_curves` (same arguments) as PNG; returns the path."""
    return save(draw_learning_curves(results, **options), path)


def _by_epoch(runs: Iterable[RunResult], key: str) -> tuple[list[float], list[list[float]]]:
    found: dict[float, list[float]] = {}
    for run in runs:
        for index, epoch in enumerate(run.history):
            value = epoch.get(key, math.nan)
            if value is not None and math.isfinite(value):
                found.setdefault(epoch.get("epoch", index + 1), []).append(value)
    return sorted(found), [found[epoch] for epoch in sorted(found)]
