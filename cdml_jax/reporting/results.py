"""What one training run leaves behind: confusion counts and history, and the figures derived from them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cdml_jax.errors import UserError, writing
from cdml_jax.metrics import accuracy, mean_class_error
from cdml_jax.retrieval.figures import COLUMNS, EmbeddingFigures

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_COLUMNS = (
    "row",
    "seed",
    "steps",
    "seconds",
    "validation_accuracy",
    "test_accuracy",
    "validation_mean_class_error",
    "test_mean_class_error",
    *COLUMNS,
)


@dataclass(frozen=True, eq=False)
class RunResult:
    """One row of the table under one seed.

    Args:
      row: short name of the row, such as "baseline" or "cdml"; part of a file name.
      seed: the seed of the run.
      steps: optimiser steps taken.
      seconds: wall-clock seconds of training.
      validation_counts: (C, C) int64; [i, j] = validation images of class i called j.
      test_counts: (C, C) int64; the same for the test split.
      history: one dictionary per epoch, such as {"epoch": 1, "loss": 3.2, "validation_accuracy": 0.4}.
      embeddings: figures of the test images' embeddings; None in results from before they were measured.
    """

    row: str
    seed: int
    steps: int
    seconds: float
    validation_counts: np.ndarray
    test_counts: np.ndarray
    history: list[dict[str, float]] = field(default_factory=list)
    embeddings: EmbeddingFigures | None = None

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.row):
            raise ValueError(f"row {self.row!r} must be letters, digits and _ . + - only: it names a file")
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


def by_row(results: Iterable[RunResult]) -> dict[str, dict[int, RunResult]]:
    """Results as row -> seed -> result, rows in order of appearance, seeds ascending.

    Raises:
      ValueError: a row and seed given twice, or results over different numbers of classes.
    """
    rows: dict[str, dict[int, RunResult]] = {}
    shapes = set()
    for result in results:
        seeds = rows.setdefault(result.row, {})
        if result.seed in seeds:
            raise ValueError(f"row {result.row!r} has two results for seed {result.seed}")
        seeds[result.seed] = result
        shapes.add(result.test_counts.shape)
    if len(shapes) > 1:
        raise ValueError(f"results over different numbers of classes: {sorted(s[0] for s in shapes)}")
    return {row: dict(sorted(seeds.items())) for row, seeds in rows.items()}


def save(result: RunResult, folder: str | Path) -> Path:
    """Write a result as `<row>-seed<seed>.json` and `.npz`; the .json appears last, so it means "done".

    Args:
      result: what the run left.
      folder: where the results of all rows and seeds stand side by side; made if missing.

    Returns:
      The path of the .json file.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = Path(folder)
    with writing(folder):
        return _save(result, folder)


def _save(result: RunResult, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.row}-seed{result.seed}.json"
    # An earlier result goes first: its .json must never stand beside newer counts.
    path.unlink(missing_ok=True)
    arrays = io.BytesIO()
    np.savez_compressed(arrays, validation_counts=result.validation_counts, test_counts=result.test_counts)
    _replace(path.with_suffix(".npz"), arrays.getvalue())
    record = {
        "row": result.row,
        "seed": result.seed,
        "steps": result.steps,
        "seconds": result.seconds,
        "history": [{key: _number(value) for key, value in epoch.items()} for epoch in result.history],
        "embeddings": result.embeddings.record() if result.embeddings else None,
    }
    _replace(path, _json(record))
    return path


def load(folder: str | Path) -> list[RunResult]:
    """Read every finished result of a folder, ordered by row and seed; a folder that is not there is empty.

    Raises:
      UserError: a file is damaged; the message names it.
    """
    results = [_load_one(path) for path in Path(folder).glob("*-seed*.json")]
    return sorted(results, key=lambda result: (result.row, result.seed))


def _load_one(path: Path) -> RunResult:
    arrays = path.with_suffix(".npz")
    current = path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        history = [
            {key: math.nan if value is None else value for key, value in epoch.items()}
            for epoch in record["history"]
        ]
        embeddings = record.get("embeddings")  # which older results lack
        current = arrays
        with np.load(arrays, allow_pickle=False) as counts:
            validation_counts, test_counts = counts["validation_counts"], counts["test_counts"]
        result = RunResult(
            row=record["row"],
            seed=int(record["seed"]),
            steps=int(record["steps"]),
            seconds=float(record["seconds"]),
            validation_counts=validation_counts,
            test_counts=test_counts,
            history=history,
            embeddings=EmbeddingFigures.of_record(embeddings) if embeddings else None,
        )
    # What numpy and zipfile raise on a damaged archive depends on which bytes are hit.
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        EOFError,
        BadZipFile,
        zlib.error,
    ) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise UserError(f"{current} {reason}; delete {path.name} to run this row and seed again") from error
    if path.stem != f"{result.row}-seed{result.seed}":
        raise UserError(f"{path} holds row {result.row!r}, seed {result.seed}: it was renamed; name it back")
    return result


def write_rows(results: Iterable[RunResult], folder: str | Path) -> list[Path]:
    """Write rows.json and rows.csv: one line per row and seed, rates as fractions in [0, 1].

    Args:
      results: the results, in the order in which their lines shall stand.
      folder: where the two files go; made if missing.

    Returns:
      The two paths.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for result in results:
        lines.append(
            {
                "row": result.row,
                "seed": result.seed,
                "steps": result.steps,
                "seconds": round(result.seconds, 3),
                "validation_accuracy": _number(accuracy(result.validation_counts)),
                "test_accuracy": _number(accuracy(result.test_counts)),
                "validation_mean_class_error": _number(mean_class_error(result.validation_counts)),
                "test_mean_class_error": _number(mean_class_error(result.test_counts)),
                **(result.embeddings.columns() if result.embeddings else dict.fromkeys(COLUMNS)),
            }
        )
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    _replace(folder / "rows.json", _json(lines))
    _replace(folder / "rows.csv", table.getvalue().encode())
    return [folder / "rows.json", folder / "rows.csv"]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _replace(path: Path, content: bytes) -> None:
    """Write under another name, then rename: whoever looks sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _number(value: float) -> float | None:
    """A plain number, or None (null) where JSON has no word for it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if not isinstance(value, float) or math.isfinite(value) else None
