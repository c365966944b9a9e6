"""What every picture shares: the paper-white figure, the methods' colours, and how a PNG is saved."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from typing import Literal

from etils.epath import Path
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from cdml_jax.reporting.paper import TABLE_2
from cdml_jax.system.files import write_bytes, writing

DPI = 130
INK = "#222222"

# Okabe and Ito's palette: distinguishable with any of the usual colour blindnesses, and in grey.
PAPER_COLOURS = dict(zip(TABLE_2, ("#a6a6a6", "#e69f00", "#56b4e9", "#0064a0"), strict=True))
_OTHER_COLOURS = ("#cc79a7", "#009e73", "#d55e00", "#000000", "#b8a800", "#7b4b94")


def colours(methods: Iterable[str]) -> dict[str, str]:
    """Method -> colour: the paper's methods have their own, the others take turns in order of appearance."""
    others = [method for method in methods if method not in PAPER_COLOURS]
    return PAPER_COLOURS | {name: _OTHER_COLOURS[k % len(_OTHER_COLOURS)] for k, name in enumerate(others)}


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


def literal(figure: Figure) -> Figure:
    """The figure with every text drawn as it is written: a dollar sign in a name begins no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def without_glyph(texts: Iterable[str]) -> str:
    """The letters of some texts for which the pictures' font has no glyph, each once: they become boxes.

    >>> without_glyph(["wren", "红雀"])
    '红雀'
    """
    known = get_font(findfont(FontProperties())).get_charmap()
    letters = dict.fromkeys(letter for text in texts for letter in text if letter != "\n")
    return "".join(letter for letter in letters if ord(letter) not in known)


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG, whole or not at all, making its folder; returns the path.

    Raises:
      UserError: it cannot be written.
    """
    path = Path(path)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # One for each glyph and picture; `without_glyph` gives them for one line.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        # No software tag: the same results give the same file.
        figure.savefig(
            picture, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None}
        )
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, picture.getvalue())
    return path
