"""The page at the end of another command, which it must not end."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from etils.epath import Path

from cdml_jax.cli.actions.running import NO_CHANGES
from cdml_jax.data.dataset import Dataset
from cdml_jax.errors import UserError
from cdml_jax.reporting import drawing
from cdml_jax.system import console


def why_not() -> str | None:
    """Why no page can be made, in one line; None if it can."""
    missing = [name for name in ("jinja2", "plotly") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    which = "which comes" if len(missing) == 1 else "which come"
    return (
        f"no page is written: that needs {' and '.join(missing)}, {which} with pip install 'cdml_jax[report]'"
    )


def attempt(
    folder: Path,
    split: str = "",
    *,
    command: str = "",
    best: bool = False,
    changes: Mapping[str, str] = NO_CHANGES,
    dataset: Dataset | None = None,
) -> None:
    """Write the page of a run or a table; what goes wrong is a line of warning.

    Args:
      folder: the workdir.
      split: whose images; "" is test where there are results of it, else validation.
      command: that makes the results again.
      best: whether the best epoch is meant.
      changes: text by dotted keys that say where things are now, such as `source`.
      dataset: of the run, where it is at hand.
    """
    left_out = why_not()
    if left_out:
        if not drawing.why_not():  # else one line has named the extra already
            console.warn(left_out)
        return
    from cdml_jax.cli.actions.report import report  # here: training needs neither scipy nor templates

    try:
        report([folder], split, changes, command=command, best=best, dataset=dataset)
    except UserError as error:
        console.warn(f"no page is written: {error}")
    except Exception as error:  # whatever a template or an image library raises: what was measured is kept
        console.warn(f"no page is written ({type(error).__name__}: {error}); cdml report tries it again")
