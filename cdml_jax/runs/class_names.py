"""What a run's classes are called, kept in its folder: a trained run is used where its images are not."""

from __future__ import annotations

import json

from etils.epath import Path

from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset
from cdml_jax.errors import UserError
from cdml_jax.runs import opening
from cdml_jax.system import console
from cdml_jax.system.archives import intact, sealed
from cdml_jax.system.files import write_json, writing

FILE = "classes.json"


def write(workdir: Path, dataset: Dataset) -> None:
    """Keep a data set's name and the names of its classes in `workdir`; others there are named and replaced.

    Raises:
      UserError: it cannot be written, or what is there cannot be opened.
    """
    classes = dataset.classes
    stored = {
        "dataset": dataset.name,
        "class_names": classes.names,
        "families": classes.families,
        "family_names": classes.family_names,
    }
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / FILE
    if path.exists() and not _is_whole(path):
        console.warn(f"{path} was edited or damaged: it is written again")
    write_json(path, sealed(stored))


def _is_whole(path: Path) -> bool:
    try:
        return intact(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        opening.refuse_unopened(path, error)
        return False


def read(workdir: Path) -> tuple[str, Classes]:
    """What `write` kept: the data set's name and its classes, with a warning where it was changed since.

    Raises:
      UserError: there is nothing, or it cannot be read.
    """
    path = workdir / FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        whole = intact(stored)
        families, family_names = (
            None if stored[key] is None else tuple(stored[key]) for key in ("families", "family_names")
        )
        found = stored["dataset"], Classes(tuple(stored["class_names"]), families, family_names)
    except FileNotFoundError:
        raise UserError(
            f"{workdir} has no {FILE}: it was trained by an older version; "
            f"`cdml evaluate --workdir={workdir}`, where its images are, writes it"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        opening.refuse_unopened(path, error)
        raise UserError(
            f"{path} cannot be read ({error}); delete it, and `cdml evaluate --workdir={workdir}`, where its "
            "images are, writes it again"
        ) from error
    if not whole:
        console.warn(
            f"{path} is not as the run wrote it (edited, damaged, or of an older version): "
            "its names may be wrong"
        )
    return found
