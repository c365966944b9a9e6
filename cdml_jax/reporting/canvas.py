"""What every picture shares: the paper-white figure, its letters, and how it is saved."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterable
from typing import Literal

from etils.epath import Path
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from cdml_jax.system.console import escaped
from cdml_jax.system.files import write_bytes, writing

DPI = 130
INK = "#222222"


def shortened(name: str, longest: int = 32) -> str:
    """The name on one line, its middle left out where it is longer: similar names differ at their ends.

    >>> shortened("Arla Ecological Medium Fat Milk", 20)
    'Arla Ecologi…at Milk'
    """
    name = escaped(name)
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
    """The figure with every text drawn as it is written: a dollar sign in a name begins no formula.

    Letters that the usual font lacks are drawn by other fonts, where some are installed that have them.
    """
    texts: list[Text] = figure.findobj(Text)  # type: ignore[assignment]
    fonts, _ = _fonts_for(_lacking(text.get_text() for text in texts))
    for text in texts:
        text.set_parse_math(False)
        text.set_usetex(False)
        if fonts:
            text.set_fontfamily([*text.get_fontfamily(), *fonts])
    return figure


def without_glyph(texts: Iterable[str]) -> str:
    """The letters of some texts for which no installed font has a glyph, each once: they become boxes.

    >>> without_glyph(["wren", "\\U0003fffe"]) == "\\U0003fffe"
    True
    """
    return _fonts_for(_lacking(map(escaped, texts)))[1]


def _lacking(texts: Iterable[str]) -> str:
    """The letters that the pictures' font lacks, each once."""
    known = get_font(findfont(FontProperties())).get_charmap()
    letters = dict.fromkeys(letter for text in texts for letter in text if letter != "\n")
    return "".join(letter for letter in letters if ord(letter) not in known)


@functools.cache
def _fonts_for(letters: str) -> tuple[list[str], str]:
    """The fewest installed fonts that have the letters, and the letters that none has."""
    if not letters:
        return [], ""
    missing, chosen = set(map(ord, letters)), []
    found: dict[str, set[int]] = {}
    for entry in fontManager.ttflist:
        # These have a box for everything, or glyphs under numbers of their own.
        if not entry.name.startswith(("Last Resort", "LastResort", "STIXNonUnicode")):
            found.setdefault(entry.name, set()).update(missing & _charmap(entry.fname))
    while missing:
        best = max(sorted(found), key=lambda name: len(found[name] & missing), default=None)
        if best is None or not found[best] & missing:
            break
        chosen.append(best)
        missing -= found[best]
    return chosen, "".join(letter for letter in letters if ord(letter) in missing)


def _charmap(file: str) -> set[int]:
    try:
        return set(get_font(file).get_charmap())
    except (OSError, RuntimeError, ValueError):  # removed since matplotlib listed it, or damaged
        return set()


def save(figure: Figure, path: str | Path, *, vector: bool = False) -> Path:
    """Write the figure as PNG, whole or not at all, making its folder; returns the path.

    Args:
      figure: whatever.
      path: of the picture.
      vector: write it as SVG next to it too, for documents that scale it.

    Raises:
      UserError: it cannot be written.
    """
    path = Path(path)
    # No software tag, no date and no drawn ids: the same results give the same files.
    _write(figure, path, "png", {"Software": None})
    if vector:
        _write(figure, path.with_suffix(".svg"), "svg", {"Date": None})
    return path


def _write(figure: Figure, path: Path, form: str, metadata: dict) -> None:
    picture = io.BytesIO()
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none", "svg.hashsalt": "cdml"}):
        # One for each glyph and picture; `without_glyph` gives them for one line.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        figure.savefig(picture, format=form, dpi=DPI, bbox_inches="tight", pad_inches=0.08, metadata=metadata)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, picture.getvalue())
