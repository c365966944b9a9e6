"""What one training run leaves behind: confusion counts, predictions and history, on disk under a digest."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from etils.epath import Path

from cdml_jax.confusion.figures import accuracy, mean_class_error
from cdml_jax.errors import UserError
from cdml_jax.reporting import answers
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.provenance import Provenance
from cdml_jax.retrieval.figures import COLUMNS, EmbeddingFigures
from cdml_jax.system.archives import Archive, DamagedError, write_archive
from cdml_jax.system.files import entries, write_json, write_text, writing

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_COLUMNS = (
    "method",
    "seed",
    "steps",
    "seconds",
    "updates",
    "operations",
    "validation_accuracy",
    "test_accuracy",
    "validation_mean_class_error",
    "test_mean_class_error",
    *answers.COLUMNS,
    *COLUMNS,
)
_SPLITS = ("validation", "test")


@dataclass(frozen=True, eq=False)
class RunResult:
    """One method under one seed.

    Args:
      method: its name, such as "baseline" or "cdml"; part of a file name.
      seed: the seed of the run.
      steps: optimiser steps taken.
      seconds: wall-clock seconds of training.
      validation_counts: (C, C) int64; [i, j] = validation images of class i called j.
      test_counts: (C, C) int64; the same for the test split.
      history: one dictionary per epoch, such as {"epoch": 1, "loss": 3.2, "validation_accuracy": 0.4}.
      embeddings: figures of the test images' embeddings; None where they were not measured.
      validation, test: what the run said of each image, from the pass that gave the counts; None where it was
        not kept, and of validation images that were trained on.
      provenance: settings, versions, devices and date.
      updates: of the parameters from each batch; None where they were not counted.
      operations: floating-point operations of a training step for each image of the batch; NaN where they
        were not counted.
    """

    method: str
    seed: int
    steps: int
    seconds: float
    validation_counts: np.ndarray
    test_counts: np.ndarray
    history: list[dict[str, float]] = field(default_factory=list)
    embeddings: EmbeddingFigures | None = None
    validation: Predictions | None = None
    test: Predictions | None = None
    provenance: Provenance | None = None
    updates: int | None = None
    operations: float = math.nan

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.method):
            raise ValueError(
                f"method {self.method!r} must be letters, digits and _ . + - only: it names a file"
            )
        for name in ("validation_counts", "test_counts"):
            counts = _checked(getattr(self, name), name)
            object.__setattr__(self, name, counts.astype(np.int64))
        if self.validation_counts.shape != self.test_counts.shape:
            raise ValueError(
                f"validation_counts {self.validation_counts.shape} and test_counts "
                f"{self.test_counts.shape} must have the same shape"
            )


def _checked(counts: np.ndarray, name: str = "counts") -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"{name} must be square (C, C), not {counts.shape}")
    if counts.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, not {counts.dtype}")
    if counts.size and counts.min() < 0:
        raise ValueError(f"{name} must not be negative")
    return counts


def save(result: RunResult, folder: str | Path) -> Path:
    """Write a result as `<method>-seed<seed>.npz`, whole or not at all: where it stands, the run is done.

    Args:
      result: what the run left.
      folder: where the results of all methods and seeds stand side by side; made if missing.

    Returns:
      The path of the file, an archive with a digest (`cdml_jax.system.archives`).

    Raises:
      UserError: the folder cannot be written.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.method}-seed{result.seed}.npz"
    splits = {name: getattr(result, name) for name in _SPLITS if getattr(result, name) is not None}
    record = {
        "method": result.method,
        "seed": result.seed,
        "steps": result.steps,
        "seconds": result.seconds,
        "history": [{key: _number(value) for key, value in epoch.items()} for epoch in result.history],
        "embeddings": result.embeddings.record() if result.embeddings else None,
        "provenance": dataclasses.asdict(result.provenance) if result.provenance else None,
        "names": {split: predictions.names for split, predictions in splits.items()},
        "updates": result.updates,
        "operations": _number(result.operations),
    }
    arrays = {"validation_counts": result.validation_counts, "test_counts": result.test_counts}
    for split, predictions in splits.items():
        arrays |= predictions.arrays(split)
    write_archive(path, record, arrays)
    return path


def load(folder: str | Path, *, embeddings: bool = False) -> list[RunResult]:
    """Read every finished result of a folder, by method and seed; a folder that is not there is empty.

    Args:
      folder: as `save` wrote to.
      embeddings: whether to read the images' embeddings too, where they were kept: they are large.

    Raises:
      UserError: a file is damaged or of another version; the message names it and says what to do.
    """
    folder = Path(folder)
    for older in _results(folder, ".json"):
        raise UserError(
            f"{older} was written by an older version; delete it and {older.stem}.npz, and the same command "
            "trains this method and seed again"
        )
    results = [load_one(path, embeddings=embeddings) for path in _results(folder, ".npz")]
    return sorted(results, key=lambda result: (result.method, result.seed))


def _results(folder: Path, suffix: str) -> list[Path]:
    try:
        found = entries(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror or error}): make it readable") from error
    return [path for path in found if "-seed" in path.stem and path.name.endswith(suffix)]


def load_one(path: Path, *, embeddings: bool = False) -> RunResult:
    """One finished result, as `load`.

    Raises:
      UserError: as `load`.
    """
    again = "delete it, and the same command makes it again from the run's checkpoint"
    try:
        archive = Archive(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except DamagedError as error:
        raise UserError(f"{path} is damaged ({error}): {again}") from error
    except Exception as error:  # as below; it is no archive of arrays and a record
        raise UserError(f"{path} was written by another program: {again}") from error
    try:
        result = _of_archive(archive, embeddings=embeddings)
    except Exception as error:
        # The digest is right, so this is what somebody wrote, and whatever it lacks or is. No traceback.
        raise UserError(f"{path} was written by another version: {again}") from error
    if path.stem != f"{result.method}-seed{result.seed}":
        raise UserError(
            f"{path} holds method {result.method!r}, seed {result.seed}: it was renamed; name it back"
        )
    return result


def _of_archive(archive: Archive, *, embeddings: bool) -> RunResult:
    record = archive.record
    figures, made = record["embeddings"], record["provenance"]
    return RunResult(
        method=record["method"],
        seed=record["seed"],
        steps=record["steps"],
        seconds=record["seconds"],
        validation_counts=archive["validation_counts"],
        test_counts=archive["test_counts"],
        history=[
            {key: math.nan if value is None else value for key, value in epoch.items()}
            for epoch in record["history"]
        ],
        embeddings=EmbeddingFigures.of_record(figures) if figures else None,
        provenance=Provenance(**made) if made else None,
        updates=record.get("updates"),  # which tables that were begun before lack
        operations=record.get("operations") or math.nan,
        **{
            split: Predictions.of_archive(archive, split, names, embeddings=embeddings)
            for split, names in record["names"].items()
        },
    )


def refuse_others(
    results: Iterable[RunResult], folder: str | Path, names: Sequence[str], labels: np.ndarray, classes: int
) -> None:
    """Refuse results of other images: files that were copied from another table.

    Args:
      results: of a folder.
      folder: where they lie, for the message.
      names, labels: of the test images, in the split's order.
      classes: how many there are.

    Raises:
      UserError: a result has other test images, or another number of classes; the first is named.
    """
    for result in results:
        said = result.test
        if len(result.test_counts) != classes or (
            said is not None
            and (said.names != tuple(names) or not np.array_equal(said.labels, np.asarray(labels)))
        ):
            file = Path(folder) / f"{result.method}-seed{result.seed}.npz"
            raise UserError(
                f"{file} is of other images or classes than this table; move it away, and the same command "
                "makes its own"
            )


def write_rows(results: Iterable[RunResult], folder: str | Path) -> list[Path]:
    """Write rows.json and rows.csv: one line per method and seed, rates as fractions in [0, 1].

    Args:
      results: the results, in the order in which their lines shall stand.
      folder: where the two files go; made if missing.

    Returns:
      The two paths.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for result in results:
        lines.append(
            {
                "method": result.method,
                "seed": result.seed,
                "steps": result.steps,
                "seconds": round(result.seconds, 3),
                "updates": result.updates,
                "operations": _number(result.operations),
                "validation_accuracy": _number(accuracy(result.validation_counts)),
                "test_accuracy": _number(accuracy(result.test_counts)),
                "validation_mean_class_error": _number(mean_class_error(result.validation_counts)),
                "test_mean_class_error": _number(mean_class_error(result.test_counts)),
                **answers.columns(result),
                **(result.embeddings.columns() if result.embeddings else dict.fromkeys(COLUMNS)),
            }
        )
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_json(folder / "rows.json", lines)
    write_text(folder / "rows.csv", table.getvalue())
    return [folder / "rows.json", folder / "rows.csv"]


def _number(value: float) -> float | None:
    """A plain number, or None (null) where JSON has no word for it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if not isinstance(value, float) or math.isfinite(value) else None
