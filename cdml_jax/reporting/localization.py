"""Photographs with their boxes, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils.epath import Path
from matplotlib.patches import Rectangle

from cdml_jax.reporting.canvas import INK, blank, literal, save, shortened

COLUMNS = 6
_FOUND, _KNOWN = "#d55e00", "#56b4e9"


class Shown(NamedTuple):
    """A photograph of the picture.

    Attributes:
      title: above it.
      image: uint8 (height, width, 3).
      box: left, top, right, bottom in pixels; None where nothing was found.
      known: the box that is known to be right, likewise; None where none is.
    """

    title: str
    image: np.ndarray
    box: tuple[float, float, float, float] | None
    known: tuple[float, float, float, float] | None = None


def draw_boxes(shown: Sequence[Shown], path: Path, *, title: str = "") -> Path:
    """Draw photographs in rows of six, the found boxes solid and the known ones dashed; returns the path."""
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = blank(1.9 * columns, 1.9 * rows + (0.4 if title else 0))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, one in zip(grid.flat, shown):
        axes.imshow(one.image)
        nothing = "" if one.box is not None else " (nothing found)"
        axes.set_title(shortened(one.title, 26) + nothing, fontsize=7, color=INK)
        for box, colour, style in ((one.known, _KNOWN, "--"), (one.box, _FOUND, "-")):
            if box is not None:
                left, top, right, bottom = box
                axes.add_patch(
                    Rectangle(
                        (left - 0.5, top - 0.5),
                        right - left,
                        bottom - top,
                        fill=False,
                        edgecolor=colour,
                        linestyle=style,
                        linewidth=1.8,
                    )
                )
        height, width = one.image.shape[:2]
        axes.set_xlim(-0.03 * width - 0.5, 1.03 * width - 0.5)
        axes.set_ylim(1.03 * height - 0.5, -0.03 * height - 0.5)
    if title:
        figure.suptitle(title, fontsize=9, color=INK)
    return save(literal(figure), path)
