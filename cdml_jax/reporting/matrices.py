"""Confusion matrices as pictures, ordered by kinship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from etils.epath import Path
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from scipy.optimize import isotonic_regression

from cdml_jax.data.classes import Classes
from cdml_jax.reporting.canvas import INK, blank, literal, save, shortened
from cdml_jax.reporting.pairs import call_rates
from cdml_jax.system.console import escaped

_CONFUSION = LinearSegmentedColormap.from_list("confusion", ["#ffffff", "#fdbb6b", "#d7301f", "#5c0011"])
_COLUMNS_NAMED = 60
_NUMBERED = 20  # classes up to which cells have room for numbers
_TICKS = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0])  # per cent


def draw_confusion(panels: Mapping[str, np.ndarray], classes: Classes) -> Figure:
    """Confusion matrices side by side, ordered by kinship: share of the images of class i called j ≠ i.

    Of two matrices a third panel shows the difference, second minus first, in points. Where there is room,
    cells have their shares in per cent, the right answers too.

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
    rates = {title: call_rates(counts)[np.ix_(order, order)] for title, counts in panels.items()}
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    starts, ends = np.r_[0, edges], np.r_[edges, number]
    shares = {title: _off_diagonal(rate) for title, rate in rates.items()}
    top = max([float(np.nanmax(share, initial=0.0)) for share in shares.values()]) or 1.0
    # Class names are drawn only where each has the height of a line of 6 points or so.
    named, side = number <= 100, min(7.2, 3.0 + 0.15 * number) if number <= 60 else 9.0
    if len(panels) > 1:
        named, side = number <= 60, min(6.4, side) if number <= 60 else 7.6
    compared = len(panels) == 2
    figure = blank(side * (len(panels) + compared) + 2.2 + compared, side + 0.9 + 0.5 * named)
    grid = figure.subplots(1, len(panels) + compared, squeeze=False)[0]
    differing = grid[-1] if compared else None
    grid = grid[: len(panels)]
    for axes, (title, share) in zip(grid, shares.items(), strict=True):
        image = axes.imshow(
            np.ma.masked_invalid(share),
            cmap=_CONFUSION,
            norm=PowerNorm(0.5, 0.0, top),
            interpolation="nearest",
        )
        _dress(axes, title)
        if number <= _NUMBERED:
            _number_cells(axes, image, 100 * rates[title])
    if differing is not None:
        first, second = rates.values()
        drawn = _draw_difference(figure, differing, 100 * (second - first))
        if number <= _NUMBERED:
            _number_cells(differing, drawn, 100 * (second - first), signed=True)
    every = [*grid, *([differing] if differing is not None else [])]
    for axes in every:
        if families is not None:
            _frame_families(axes, starts, ends)
    if named:
        size = min(9.0, (0.68 if len(panels) == 1 else 0.74) * 72 * side / number)
        names = [shortened(classes.names[i]) for i in order]
        sizes = next(iter(panels.values())).sum(axis=1)[order]
        rows = [f"{name} ({images})" for name, images in zip(names, sizes)]
        grid[0].set_yticks(np.arange(number), rows, fontsize=size)
        grid[0].tick_params(axis="y", length=0, pad=2)
        grid[0].set_ylabel("class of the image (how many images)", fontsize=10)
        for axes in every if number <= _COLUMNS_NAMED else ():
            axes.set_xticks(np.arange(number), names, fontsize=size, rotation=90)
            axes.tick_params(axis="x", length=0, pad=2)
            axes.set_xlabel("called", fontsize=10)
    else:
        grid[0].set_ylabel("class of the image", fontsize=10)
    if classes.family_names is not None:
        labels = [classes.family_names[groups[order[start]]] for start in starts]
        _side_labels(every[-1], (starts + ends - 1) / 2, labels, side)
    bar = figure.colorbar(image, ax=list(grid), location="bottom", shrink=0.5, aspect=40, pad=0.02)
    bar.set_label("share of the images of the row's class, %; grey: the right answer", fontsize=9)
    ticks = [tick for tick in _TICKS if tick <= 100 * top and (tick == 0 or tick >= top)]
    bar.set_ticks([tick / 100 for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    return literal(figure)


def _draw_difference(figure: Figure, axes: Axes, change: np.ndarray) -> AxesImage:
    """Shares of one matrix minus those of another, in points; more is orange, less is violet."""
    largest = float(np.nanmax(np.abs(change), initial=0.0)) or 1.0
    image = axes.imshow(
        np.ma.masked_invalid(change),
        cmap="PuOr_r",
        norm=SymLogNorm(linthresh=2.0, vmin=-largest, vmax=largest),
        interpolation="nearest",
    )
    _dress(axes, "difference, second − first")
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=30, pad=0.02)
    bar.set_label("points, right answers too", fontsize=9)
    ticks = [tick for tick in (1.0, 5.0, 20.0, 60.0) if tick <= largest] or [largest]
    ends = [-tick for tick in reversed(ticks)] + [0.0] + ticks
    bar.set_ticks(ends, labels=[f"{tick:+g}" if tick else "0" for tick in ends])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    return image


def _number_cells(axes: Axes, image: AxesImage, values: np.ndarray, *, signed: bool = False) -> None:
    """Write values into the cells that are not nought once rounded; white where the ground is dark."""
    drawn: np.ma.MaskedArray = np.ma.masked_invalid(np.ma.asarray(image.get_array()))
    unseen = np.ma.getmaskarray(drawn)
    light = (image.to_rgba(drawn)[..., :3] @ (0.3, 0.59, 0.11)) > 0.5
    size = min(9.0, 170.0 / len(values))
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value) or round(value) == 0:
            continue
        text = f"{value:+.0f}" if signed else f"{value:.0f}"
        colour = INK if light[row, column] or unseen[row, column] else "white"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


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


def confusion_figure(
    panels: Mapping[str, np.ndarray], classes: Classes, path: str | Path, *, vector: bool = False
) -> Path:
    """Save `draw_confusion` (same arguments) as PNG, with `vector` as SVG too; returns the PNG's path."""
    return save(draw_confusion(panels, classes), path, vector=vector)


def _off_diagonal(rates: np.ndarray) -> np.ndarray:
    wrong = rates.copy()
    np.fill_diagonal(wrong, np.nan)
    return wrong


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
