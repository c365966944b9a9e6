"""Pictures that may fail: what was trained and measured is not lost with them."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator

from etils.epath import Path

from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.system import console


def why_not() -> str | None:
    """Why no picture can be drawn, in one line; None if they can."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture is drawn: that needs matplotlib, which comes with pip install 'cdml_jax[report]'"
    return None


@contextlib.contextmanager
def surviving(what: str) -> Iterator[None]:
    """Inside it, what goes wrong in drawing `what` becomes one line of warning, and ends the block alone."""
    try:
        with console.working(f"Drawing {what}"):
            yield
    except Exception as error:  # whatever a drawing library raises
        lines = str(error).strip().splitlines() or [""]
        reason = lines[-1] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[-1].strip()}"
        console.warn(f"{what}: not drawn ({reason})")


def attempt(path: Path, draw: Callable[[Path], object]) -> Path | None:
    """Draw a picture; if that fails, a line of warning says why.

    Args:
      path: where the picture goes.
      draw: what draws it there.

    Returns:
      The path, or None if there is no picture.
    """
    with surviving(path.name):
        draw(path)
        return path
    return None


def warn_of_glyphs(classes: Classes, titles: Iterable[str] = ()) -> None:
    """Say in one line for which letters of the names no font is installed, if any."""
    from cdml_jax.reporting.canvas import without_glyph  # here: it loads matplotlib

    letters = without_glyph([*classes.names, *(classes.family_names or ()), *titles])
    if letters:
        shown = " ".join(repr(letter)[1:-1] for letter in letters[:5])
        more = f" and {len(letters) - 5} more" if len(letters) > 5 else ""
        console.warn(f"letters of names that no installed font has are drawn as boxes: {shown}{more}")
