"""Draws the README's picture of the method.

python docs/images/draw_method.py docs/images/method.png
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from cdml_jax.reporting.canvas import DPI, INK, save

_BLUE, _ORANGE, _GREY = "#0064a0", "#b86e00", "#777777"
# A small confusion matrix, two families of three: what the picture's weights are really computed from.
_COUNTS = np.array(
    [
        [15, 4, 1, 0, 0, 0],
        [6, 12, 2, 0, 0, 0],
        [1, 2, 17, 0, 0, 0],
        [0, 0, 0, 18, 1, 1],
        [0, 0, 1, 2, 10, 7],
        [0, 0, 0, 1, 5, 14],
    ]
)


def draw_method() -> Figure:
    """The loop of an epoch: plan of batches, step, counts, class and pair weights, and back.

    Returns:
      The figure; its small matrix and bars are computed by the method's own equations.
    """
    figure = Figure(figsize=(11.0, 5.6), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 11)
    axes.set_ylim(0, 5.6)
    axes.set_axis_off()

    _box(axes, 0.2, 3.45, 2.9, 1.95, "Plan of batches", _GREY)
    _text(
        axes,
        1.65,
        4.36,
        "groups of confusing classes,\nthe rest a uniform stream:\nevery image keeps its turn",
    )
    _batch(axes, 0.62, 3.62)
    _box(axes, 4.25, 3.45, 1.9, 1.95, "Network", _GREY)
    _text(axes, 5.2, 4.26, "logits  $f(I)$\n\nembedding  $g(I)$\nof length 1")
    _box(axes, 7.3, 3.45, 3.5, 1.95, "Loss   $L_{ws} + \\lambda\\, L_{cd}$", _GREY)
    _text(axes, 9.05, 4.62, "$L_{ws}$:  each image's cross entropy\ntimes its class weight $w_y$", _ORANGE)
    triplets = "$L_{cd}$:  triplets, the negative from\na class confused with the anchor's"
    _text(axes, 9.05, 3.88, triplets, _BLUE)

    _box(axes, 8.0, 0.2, 2.8, 2.2, "Counts of an epoch", _GREY)
    _matrix(figure, (8.17, 0.33, 1.6, 1.6), _COUNTS, "Greys")
    _text(axes, 10.29, 1.13, "images\nof class $i$\ncalled $j$", size=9)

    shares = _COUNTS / _COUNTS.sum(axis=1, keepdims=True)
    rates = 1 - np.diagonal(shares)
    pairs = shares * (1 - np.eye(len(shares)))
    _box(axes, 0.2, 0.2, 6.3, 2.2, "", _GREY)
    _heading(axes, 1.65, 2.16, "Pair weights  $A$", _BLUE)
    _matrix(figure, (0.38, 0.33, 1.6, 1.6), pairs / pairs.sum(), "Blues")
    _text(axes, 2.6, 1.13, "how often\n$i$ is taken\nfor $j$", size=9)
    _heading(axes, 4.95, 2.16, "Class weights  $w$", _ORANGE)
    bars = figure.add_axes(_inches((3.55, 0.37, 1.6, 1.5)))
    bars.bar(np.arange(len(rates)), rates, color="#e69f00", width=0.75)
    bars.set_axis_off()
    _text(axes, 5.77, 1.13, "how often\nclass $i$\nis missed", size=9)

    _arrow(axes, (3.1, 4.42), (4.25, 4.42), "images", (3.68, 4.57))
    _arrow(axes, (6.15, 4.66), (7.3, 4.66), "$f,\\ g$", (6.72, 4.82))
    _arrow(axes, (7.3, 4.18), (6.15, 4.18), "gradients", (6.72, 4.02))
    _arrow(axes, (10.05, 3.45), (10.05, 2.4), "predictions", (9.52, 2.93))
    _arrow(axes, (8.0, 1.3), (6.5, 1.3), "after each\nepoch", (7.25, 1.62))
    _arrow(axes, (0.75, 2.4), (0.75, 3.45), "which classes meet in a batch", (2.0, 2.93))
    _text(axes, 6.03, 3.03, "what an error costs", _ORANGE, size=9.5)
    _text(axes, 6.03, 2.77, "which triplets are drawn", _BLUE, size=9.5)
    _arrow(axes, (6.4, 2.4), (8.1, 3.45))
    return figure


def _box(axes: Axes, x: float, y: float, width: float, height: float, title: str, colour: str) -> None:
    shape = FancyBboxPatch(
        (x, y),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor="#fafafa",
        edgecolor=colour,
        linewidth=1.4,
    )
    axes.add_patch(shape)
    _heading(axes, x + width / 2, y + height - 0.24, title)


def _heading(axes: Axes, x: float, y: float, text: str, colour: str = INK) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=12, color=colour)


def _text(axes: Axes, x: float, y: float, text: str, colour: str = INK, *, size: float = 10) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=colour, linespacing=1.35)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    label: str = "",
    at: tuple[float, float] = (0.0, 0.0),
    colour: str = INK,
) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=15, linewidth=1.5, color=colour, shrinkA=2, shrinkB=2
    )
    axes.add_patch(arrow)
    _text(axes, *at, label, colour, size=9.5)


def _batch(axes: Axes, x: float, y: float) -> None:
    """A batch of twelve: two images each of three classes that get confused, then the stream."""
    colours = ["#e69f00"] * 2 + ["#56b4e9"] * 2 + ["#009e73"] * 2 + ["#cfcfcf"] * 6
    for k, colour in enumerate(colours):
        axes.add_patch(
            FancyBboxPatch(
                (x + 0.175 * k, y), 0.13, 0.2, boxstyle="square,pad=0", facecolor=colour, edgecolor="white"
            )
        )


def _inches(place: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = place
    return x / 11.0, y / 5.6, width / 11.0, height / 5.6


def _matrix(
    figure: Figure, place: tuple[float, float, float, float], values: np.ndarray, colours: str
) -> None:
    axes = figure.add_axes(_inches(place))
    axes.imshow(np.sqrt(values), cmap=colours, vmin=0.0, vmax=1.15 * np.sqrt(values.max()))
    axes.set_xticks(np.arange(0.5, len(values) - 1), [])
    axes.set_yticks(np.arange(0.5, len(values) - 1), [])
    axes.grid(color="white", linewidth=1.2)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color("#999999")


if __name__ == "__main__":
    save(draw_method(), sys.argv[1])
