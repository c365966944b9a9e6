"""Figures of a method on images that it was not trained on, every image of training and validation once."""

from __future__ import annotations

import numpy as np
from etils.epath import Path

from cdml_jax.configuration.settings import Settings
from cdml_jax.data.dividing.folds import fold
from cdml_jax.distributed import processes
from cdml_jax.distributed.signals import Stop
from cdml_jax.errors import UserError
from cdml_jax.methods import Method
from cdml_jax.runs.evaluation import evaluate_split
from cdml_jax.runs.loop import fit
from cdml_jax.system.archives import Archive, DamagedError, write_archive
from cdml_jax.training.program import Program

_KEPT = ("labels", "top_classes", "top_probabilities", "true_probability")  # of each held-out image


def cross_validate(
    program: Program[Settings],
    name: str,
    method: Method,
    seed: int,
    *,
    folds: int,
    folder: Path | None = None,
    stop: Stop | None = None,
) -> np.ndarray:
    """Confusion counts of the held-out folds, by as many models as there are folds.

    Args:
      program: of the whole data set, with a training and a validation split; every fold has its settings.
      name: of the method, for files.
      method: of the program's structure.
      seed: of every fold's run.
      folds: how many; which image is in which depends on the images' names alone.
      folder: where finished folds, with what each said of its held-out images, and checkpoints are kept;
        None keeps nothing.
      stop: asks to end early.

    Returns:
      (folds, C, C) int64.
    """
    counts = []
    for index in range(folds):
        kept = folder / f"{name}-seed{seed}-fold{index}of{folds}.npz" if folder else None
        if kept is None or not kept.is_file():
            feeds = fold(program.feeds, index, folds)
            part = program.beside(feeds=feeds)
            run = fit(part, method, seed, folder=kept.with_suffix("") if kept else None, stop=stop)
            seen = evaluate_split(part, run.state, "validation")
            hard = np.asarray(seen.counts.matrix)
            if kept is None:
                counts.append(hard)
                continue
            if processes.is_first():
                held_out = part.feed("validation")
                names = [held_out.name(place) for place in range(len(held_out))]
                record = {"method": name, "seed": seed, "fold": index, "folds": folds, "names": names}
                said = {f"held_out_{field}": getattr(seen, field) for field in _KEPT}
                write_archive(kept, record, {"counts": hard} | said)
            processes.wait_for_all("fold")
        counts.append(_counts(kept))
    return np.stack(counts)


def _counts(path: Path) -> np.ndarray:
    try:
        return Archive(path)["counts"]
    except (OSError, DamagedError) as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it, and the same command makes it again from the fold's run"
        ) from error
