"""What `cdml evaluate` measured of a run, on disk under a digest: reports need no network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from etils.epath import Path

from cdml_jax.errors import UserError
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.provenance import Provenance
from cdml_jax.retrieval.figures import EmbeddingFigures
from cdml_jax.system.archives import Archive, DamagedError, write_archive
from cdml_jax.system.files import writing

FOLDER = "evaluated"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A trained network on one split.

    Attributes:
      method: the method's key, such as "cdml".
      title: what to print for it.
      seed: of the run.
      split: which images.
      epoch: how many the network was trained.
      best: whether it is that of the best epoch.
      predictions: what it said of each image.
      embeddings: figures of the embeddings; None where they were not measured.
      provenance: settings, versions, devices and date of the evaluation.
    """

    method: str
    title: str
    seed: int
    split: str
    epoch: int
    best: bool
    predictions: Predictions
    embeddings: EmbeddingFigures | None = None
    provenance: Provenance | None = None


def path_of(workdir: Path, split: str, *, best: bool) -> Path:
    """Where the evaluation of a split is kept."""
    return workdir / FOLDER / f"{split}{'-best' if best else ''}.npz"


def save(evaluation: Evaluation, workdir: Path) -> Path:
    """Write an evaluation, whole or not at all; returns its path.

    Raises:
      UserError: it cannot be written.
    """
    path = path_of(workdir, evaluation.split, best=evaluation.best)
    record = {
        name: getattr(evaluation, name) for name in ("method", "title", "seed", "split", "epoch", "best")
    }
    record |= {
        "embeddings": evaluation.embeddings.record() if evaluation.embeddings else None,
        "provenance": dataclasses.asdict(evaluation.provenance) if evaluation.provenance else None,
        "names": evaluation.predictions.names,
    }
    with writing(workdir):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_archive(path, record, evaluation.predictions.arrays(evaluation.split))
    return path


def load(workdir: Path, split: str, *, best: bool = False) -> Evaluation | None:
    """The evaluation of a split that is kept in a workdir; None where there is none.

    Raises:
      UserError: it is damaged, or of another version.
    """
    path = path_of(workdir, split, best=best)
    if not path.exists():
        return None
    again = f"delete it, and cdml evaluate --split={split} writes it again"
    try:
        archive = Archive(path)
        record = dict(archive.record)
        figures, made = record.pop("embeddings"), record.pop("provenance")
        names = record.pop("names")
        return Evaluation(
            predictions=Predictions.of_archive(archive, split, names),
            embeddings=EmbeddingFigures.of_record(figures) if figures else None,
            provenance=Provenance(**made) if made else None,
            **record,
        )
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except DamagedError as error:
        raise UserError(f"{path} is damaged ({error}): {again}") from error
    except Exception as error:  # the digest is right, so this is what another version wrote
        raise UserError(f"{path} was written by another version: {again}") from error
