"""What a run's classes are called, kept in its folder: a trained run is used where its images are not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cdml_jax.data.dataset import Dataset
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.archives import intact, sealed
from cdml_jax.system.files import write_json, writing

FILE = "classes.json"


@dataclasses.dataclass(frozen=True)
class Classes:
    """Names of a run's classes, in the order of the logits.

    Attributes:
      dataset: the data set's name.
      class_names: one a class.
      families: the family of every class, or None.
      family_names: one a family, or None.
    """

    dataset: str
    class_names: tuple[str, ...]
    families: tuple[int, ...] | None = None
    family_names: tuple[str, ...] | None = None


def write(workdir: Path, dataset: Dataset) -> None:
    """Keep the names of a data set's classes in `workdir`.

    Raises:
      UserError: it cannot be written.
    """
    families = None if dataset.families is None else tuple(int(family) for family in dataset.families)
    classes = Classes(dataset.name, dataset.class_names, families, dataset.family_names)
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / FILE, sealed(dataclasses.asdict(classes)))


def read(workdir: Path) -> Classes:
    """What `write` kept, with a warning where it was changed since.

    Raises:
      UserError: there is nothing, or it cannot be read.
    """
    path = workdir / FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        whole = intact(stored)
        named: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in stored.items() if key != "digest"
        }
        classes = Classes(**named)
        if not isinstance(classes.class_names, tuple):
            raise ValueError("it names no classes")
    except FileNotFoundError:
        raise UserError(
            f"{workdir} has no {FILE}: it was trained by an older version; "
            f"`cdml evaluate --workdir={workdir}`, where its images are, writes it"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete it, and `cdml evaluate --workdir={workdir}`, where its "
            "images are, writes it again"
        ) from error
    if not whole:
        console.warn(
            f"{path} is not as the run wrote it (edited, damaged, or of an older version): "
            "its names may be wrong"
        )
    return classes
