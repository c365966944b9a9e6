"""Confusion matrices as pictures, ordered by kinship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from etils.epath import Path
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.optimize import isotonic_regression

from cdml_jax.data.classes import Classes
from cdml_jax.reporting.canvas import INK, blank, literal, save, shortened
from cdml_jax.reporting.pairs import call_rates
from cdml_jax.system.console import escaped

_CONFUSION = LinearSegmentedColormap.from_list("confusion", ["#ffffff", "#fdbb6b", "#d7301f", "#5c0011"])
_TICKS = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0])  # per cent


def draw_confusion(panels: Mapping[str, np.ndarray], classes: Classes) -> Figure:
    """Confusion matrices side by side, ordered by kinship: share of the images of class i called j ≠ i.

    Args:
      panels: title -> (C, C) counts, [i, j] = images of class i called j; one to three of them.
      classes: their names and families; without families the classes stay in their order.

    Returns:
      The figure. Rows are normalised, the diagonal is grey, one colour scale serves all panels; its square
      root keeps rare confusions visible.
    """
    number, families = classes.number, classes.families
    groups = np.zeros(number, int) if families is None else np.asarray(families)
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    starts, ends = np.r_[0, edges], np.r_[edges, number]
    shares = {title: _off_diagonal(counts)[np.ix_(order, order)] for title, counts in panels.items()}
    top = max([float(np.nanmax(share, initial=0.0)) for share in shares.values()]) or 1.0
    # Class names are drawn only where each has the height of a line of 6 points or so.
    named, side = number <= 100, min(7.2, 3.0 + 0.15 * number) if number <= 60 else 9.0
    if len(panels) > 1:
        named, side = number <= 60, min(6.4, side) if number <= 60 else 7.6
    figure = blank(side * len(panels) + 2.2, side + 0.9)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, share) in zip(grid, shares.items(), strict=True):
        image = axes.imshow(
            np.ma.masked_invalid(share),
            cmap=_CONFUSION,
            norm=PowerNorm(0.5, 0.0, top),
            interpolation="nearest",
        )
        _dress(axes, title)
        if families is not None:
            _frame_families(axes, starts, ends)
    if named:
        size = min(9.0, (0.68 if len(panels) == 1 else 0.74) * 72 * side / number)
        grid[0].set_yticks(np.arange(number), [shortened(classes.names[i]) for i in order], fontsize=size)
        grid[0].tick_params(axis="y", length=0, pad=2)
    else:
        grid[0].set_ylabel("class of the image", fontsize=10)
    if classes.family_names is not None:
        labels = [classes.family_names[groups[order[start]]] for start in starts]
        _side_labels(grid[-1], (starts + ends - 1) / 2, labels, side)
    bar = figure.colorbar(image, ax=list(grid), location="bottom", shrink=0.5, aspect=40, pad=0.02)
    bar.set_label("share of the images of the row's class, %; grey: the right answer", fontsize=9)
    ticks = [tick for tick in _TICKS if tick <= 100 * top and (tick == 0 or tick >= top)]
    bar.set_ticks([tick / 100 for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    return literal(figure)


def _dress(axes: Axes, title: str) -> None:
    axes.set_facecolor("#e4e4e4")
    axes.set_title(escaped(title), fontsize=11, color=INK)
    axes.set_xlabel("called (same order)", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#888888")


def _frame_families(axes: Axes, starts: np.ndarray, ends: np.ndarray) -> None:
    """Lines between families, and a box around each family's confusion with itself."""
    for edge in starts[1:]:
        axes.axhline(edge - 0.5, color="#888888", linewidth=0.25)
        axes.axvline(edge - 0.5, color="#888888", linewidth=0.25)
    for start, end in zip(starts, ends, strict=True):
        size = end - start
        box = Rectangle((start - 0.5,) * 2, size, size, fill=False, edgecolor="#1f5fa8", linewidth=0.9)
        axes.add_patch(box)


def confusion_figure(panels: Mapping[str, np.ndarray], classes: Classes, path: str | Path) -> Path:
    """Save `draw_confusion` (same arguments) as PNG; returns the path."""
    return save(draw_confusion(panels, classes), path)


def _off_diagonal(counts: np.ndarray) -> np.ndarray:
    rates = call_rates(counts)
    np.fill_diagonal(rates, np.nan)
    return rates


def _side_labels(axes: Axes, centres: np.ndarray, labels: Sequence[str], inches: float) -> None:
    """Name positions on the right edge; close ones are pushed apart and tied to their place by a line."""
    number = axes.get_ylim()[0] + 0.5
    size = 8.0 if len(labels) * 9.5 < inches * 72 else 6.5
    gap = number * size * 1.15 / (inches * 72)
    if gap * len(labels) > number:
        return  # they cannot all be read
    # The nearest places, by least squares, that keep the order and the gap.
    steps = gap * np.arange(len(centres))
    spots = isotonic_regression(centres - steps).x
    spots = np.clip(spots, 0.0, max(number - 1.0 - steps[-1], 0.0)) + steps
    for centre, spot, label in zip(centres, spots, labels, strict=True):
        axes.annotate(
            shortened(label),
            (number - 0.5, centre),
            (number * 1.025 - 0.5, spot),
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.5,
                "color": "#888888",
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0.0, 0.5),
            },
        )
