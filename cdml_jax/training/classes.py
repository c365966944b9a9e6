"""What a run's classes are called, kept in its folder: a trained run is used where its images are not."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from cdml_jax.data.dataset import Dataset
from cdml_jax.errors import UserError
from cdml_jax.system.files import writing

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
    content = json.dumps(dataclasses.asdict(classes), indent=1, ensure_ascii=False) + "\n"
    path = workdir / FILE
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return
    with writing(workdir):
        partial = workdir / f"{FILE}.{os.getpid()}.tmp"
        try:
            partial.write_text(content, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read(workdir: Path) -> Classes:
    """What `write` kept.

    Raises:
      UserError: there is nothing, or it cannot be read.
    """
    path = workdir / FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        lists = {key: tuple(value) for key, value in stored.items() if isinstance(value, list)}
        return Classes(**(stored | lists))
    except FileNotFoundError:
        raise UserError(
            f"{workdir} has no {FILE}: it was trained by an older version; "
            f"`cdml evaluate --workdir={workdir}`, where its images are, writes it"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
