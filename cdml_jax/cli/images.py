"""Image files that a person names, one by one or by their folders, and the trained run that looks at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cdml_jax.errors import UserError

if TYPE_CHECKING:
    from cdml_jax.inference.trained_run import TrainedRun


def trained_run(workdir: Path, *, best: bool = False) -> TrainedRun:
    """The run of a workdir, ready to be called; what it compiles is kept as its configuration says.

    Raises:
      UserError: it holds no run that can be read.
    """
    from cdml_jax.inference.trained_run import load
    from cdml_jax.system.compilation_cache import keep_compiled

    run = load(workdir, best=best)
    keep_compiled(run.config.compilation_cache)
    return run


def images_in(folder: Path) -> list[Path]:
    """The image files below a folder, in the order of their paths; hidden ones are left out.

    Raises:
      UserError: there is none.
    """
    from cdml_jax.data.images.decoding import EXTENSIONS

    found = [
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise UserError(f"{folder}: no image in it ({', '.join(sorted(EXTENSIONS))})")
    return sorted(found)
