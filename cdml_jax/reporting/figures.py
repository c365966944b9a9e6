"""Pictures of a table: `draw_*` returns the matplotlib Figure, the function next to it saves it as PNG.

matplotlib's object interface only: no pyplot, no global state, no display.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils.epath import Path
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from cdml_jax.confusion.figures import class_error
from cdml_jax.reporting.canvas import blank, literal, plain, save, shortened
from cdml_jax.reporting.colours import PAPER_COLOURS, colours
from cdml_jax.reporting.pairs import confused_subcategories
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import Table
from cdml_jax.system.console import escaped

_MARKED = 12  # evaluations, up to which each has a mark


def draw_misclassification(table: Table, *, number: int = 20, methods: Sequence[str] | None = None) -> Figure:
    """Bars of TEST misclassification rates (mean over seeds) of the `confused_subcategories`.

    Args:
      table: results of all methods and seeds.
      number: how many subcategories.
      methods: which, in which order; by default all, those of the paper first.

    Returns:
      The figure; each method is one bar container, in per cent, in the order of `confused_subcategories`.
      Whiskers run from the lowest to the highest seed.
    """
    every = dict.fromkeys([*PAPER_COLOURS, *table.runs])
    shown = [method for method in (methods or every) if method in table.runs]
    chosen = confused_subcategories(table, number)
    height = 0.82 / max(len(shown), 1)
    figure = blank(8.0, 1.1 + len(chosen) * max(0.42, 0.1 * len(shown)))
    axes = figure.add_subplot()
    positions = np.arange(len(chosen))
    for k, method in enumerate(shown):
        runs = table.runs[method].values()
        rates = 100.0 * np.stack([class_error(run.test_counts)[chosen] for run in runs])
        mean, offset = rates.mean(axis=0), (k - (len(shown) - 1) / 2) * height
        bars = axes.barh(
            positions + offset,
            mean,
            height,
            color=colours(table.runs)[method],
            label=escaped(table.titles[method]),
            # The mean of equal rates may be rounded past them.
            xerr=np.stack([mean - rates.min(axis=0), rates.max(axis=0) - mean]).clip(0)
            if len(rates) > 1
            else None,
            error_kw={"elinewidth": 1.0, "ecolor": "#222222"},
        )
        for whiskers in bars.errorbar.lines[2] if bars.errorbar else ():
            # On the dark bars a dark line needs a light edge.
            whiskers.set_path_effects([withStroke(linewidth=2.8, foreground="white")])
    for position, label in zip(positions, chosen):
        if not any(class_error(run.test_counts)[label] for m in shown for run in table.runs[m].values()):
            axes.text(0.5, float(position), "0 % by every method", va="center", fontsize=8, color="#555555")
    # Every run saw the same test images.
    images = table.results[0].test_counts.sum(axis=1)
    names = [f"{shortened(table.classes.names[i], 44)} ({images[i]})" for i in chosen]
    axes.set_yticks(positions, names, fontsize=9)
    axes.set_ylim(len(chosen) - 0.45, -0.55)
    axes.set_xlim(left=0.0)
    label = "misclassified test images, % of those in brackets (whiskers: lowest to highest seed)"
    axes.set_xlabel(label, fontsize=9)
    plain(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=min(len(shown), 4), frameon=False, fontsize=9)
    return literal(figure)


def misclassification_figure(table: Table, path: str | Path, *, vector: bool = False, **options: Any) -> Path:
    """Save `draw_misclassification` (same arguments) as PNG, with `vector` as SVG too; the PNG's path."""
    return save(draw_misclassification(table, **options), path, vector=vector)


def draw_learning_curves(table: Table) -> Figure:
    """Training loss and validation accuracy against the epoch: mean over seeds, lowest to highest as a band.

    The loss is the softmax part, which every method has, where all runs have kept it; the whole objectives of
    different methods are different quantities. Two seeds are two thin lines: a band needs three. Few
    evaluations have marks.

    Args:
      table: results of all methods and seeds; epochs without a figure are skipped.

    Returns:
      The figure, loss on the left, validation accuracy in per cent on the right.
    """
    figure = blank(10.0, 4.2)
    common = all("softmax_loss" in entry for run in table.results for entry in run.history)
    loss = "softmax part of the training loss" if common else "training loss (each method's own objective)"
    for axes, key, scale, label in zip(
        figure.subplots(1, 2),
        ("softmax_loss" if common else "loss", "validation_accuracy"),
        (1.0, 100.0),
        (loss, "validation accuracy, %"),
        strict=True,
    ):
        last = 1.0
        for k, (method, title) in enumerate(table.titles.items()):
            epochs, values = _by_epoch(table.runs[method].values(), key)
            if not epochs:
                continue
            last = max(last, epochs[-1])
            colour, mean = colours(table.runs)[method], [scale * np.mean(value) for value in values]
            style: dict[str, Any] = {
                "linestyle": "-" if method in PAPER_COLOURS else ("--", ":", "-.")[k % 3],
                "marker": "o" if len(epochs) <= _MARKED else "",
                "markersize": 4,
                # All are compared with the baseline, whose grey is the faintest colour.
                "linewidth": 2.6 if method == table.baseline else 1.6,
            }
            axes.plot(epochs, mean, color=colour, label=escaped(title), **style)
            low, high = ([scale * pick(value) for value in values] for pick in (min, max))
            if max(len(value) for value in values) > 2:
                axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
            elif low != high:
                for seed in (low, high):
                    axes.plot(epochs, seed, color=colour, alpha=0.5, linewidth=0.7)
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, last + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        plain(axes, grid="y")
    handles, names = figure.axes[0].get_legend_handles_labels()
    if not handles:
        handles, names = figure.axes[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return literal(figure)


def learning_curves(table: Table, path: str | Path, *, vector: bool = False) -> Path:
    """Save `draw_learning_curves` as PNG, with `vector` as SVG too; returns the PNG's path."""
    return save(draw_learning_curves(table), path, vector=vector)


def _by_epoch(runs: Iterable[RunResult], key: str) -> tuple[list[float], list[list[float]]]:
    found: dict[float, list[float]] = {}
    for run in runs:
        for index, epoch in enumerate(run.history):
            value = epoch.get(key, math.nan)
            if value is not None and math.isfinite(value):
                found.setdefault(epoch.get("epoch", index + 1), []).append(value)
    return sorted(found), [found[epoch] for epoch in sorted(found)]
