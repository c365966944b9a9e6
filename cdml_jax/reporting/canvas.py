"""What every picture shares: the paper-white figure, the rows' colours, and how a PNG is saved."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 130
INK = "#222222"

# Okabe and Ito's palette: distinguishable with any of the usual colour blindnesses, and in grey.
PAPER_COLOURS = {
    "baseline": "#a6a6a6",
    "weighted_softmax": "#e69f00",
    "confusion_driven": "#56b4e9",
    "cdml": "#0064a0",
}
_OTHER_COLOURS = ("#cc79a7", "#009e73", "#d55e00", "#000000", "#b8a800", "#7b4b94")


def row_colours(rows: Iterable[str]) -> dict[str, str]:
    """Row -> colour: the paper's rows have their own, the others take turns in order of appearance."""
    others = [row for row in rows if row not in PAPER_COLOURS]
    return PAPER_COLOURS | {row: _OTHER_COLOURS[k % len(_OTHER_COLOURS)] for k, row in enumerate(others)}


def shortened(name: str, longest: int = 32) -> str:
    """The name, its middle left out where it is longer than `longest`: similar names differ at their ends.

    >>> shortened("Arla Ecological Medium Fat Milk", 20)
    'Arla Ecologi…at Milk'
    """
    if len(name) <= longest:
        return name
    tail = 2 * (longest - 1) // 5
    return f"{name[: longest - 1 - tail].rstrip()}…{name[-tail:]}"


def blank(width: float, height: float) -> Figure:
    """A white figure of `width` × `height` inches whose parts make room for each other."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def plain(axes: Axes, *, grid: Literal["x", "y"]) -> None:
    """Take the frame from the axes and rule faint lines across "x" or "y"."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#d9d9d9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG, making its folder; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No software tag: the same results give the same file.
    figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
    return path
