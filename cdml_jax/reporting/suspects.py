"""Images whose labels may be wrong: what models say of them that were not trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils.epath import Path
from scipy import sparse

from cdml_jax.errors import UserError
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.system import console, files
from cdml_jax.system.archives import Archive, DamagedError

HELD_OUT = "held out"
"""What the folds of training and validation images are called where splits are named."""


class Suspect(NamedTuple):
    """An image that models take for another class than its own.

    Attributes:
      image: its place among the images.
      suggested: the class that they take it for.
      own, other: the mean probability of its own class, and of that one.
    """

    image: int
    suggested: int
    own: float
    other: float


def suspected_labels(runs: Sequence[Predictions], num_classes: int) -> list[Suspect]:
    """Images that confident models call another class, by the largest difference of probabilities first.

    A model is confident of class j where its probability reaches the mean that images of class j have. An
    image is suspected if a class j is confident and likelier than its own; the likeliest such j is suggested.
    Probabilities are means over the runs; classes that no run has among its five likeliest count 0.

    Args:
      runs: what models said of the same images, in one order, of images that none was trained on.
      num_classes: C.

    Source: C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 2021, equations 1 and 2.
    """
    if not runs or not len(runs[0].labels):
        return []
    labels = runs[0].labels
    number, top = runs[0].top_classes.shape
    rows = np.repeat(np.arange(number), top)
    shape = (number, num_classes)
    said = sum(
        sparse.coo_array(
            (run.top_probabilities.ravel().astype(float), (rows, run.top_classes.ravel())), shape
        )
        for run in runs
    ).tocsr() / len(runs)
    own = np.mean([run.true_probability for run in runs], axis=0, dtype=float)
    known = np.isfinite(own)
    sums = np.bincount(labels[known], own[known], minlength=num_classes)
    sizes = np.bincount(labels[known], minlength=num_classes)
    thresholds = np.divide(sums, sizes, out=np.full(num_classes, np.inf), where=sizes > 0)
    entries = said.tocoo()
    image, called, probability = entries.row, entries.col, entries.data
    kept = (called != labels[image]) & (probability >= thresholds[called]) & (probability > own[image])
    best: dict[int, Suspect] = {}
    for place in np.flatnonzero(kept):
        found = Suspect(
            int(image[place]), int(called[place]), float(own[image[place]]), float(probability[place])
        )
        if found.image not in best or found.other > best[found.image].other:
            best[found.image] = found
    return sorted(best.values(), key=lambda found: (found.own - found.other, found.image))


def held_out(folder: Path) -> Predictions | None:
    """What the models of folds said of the images that they were not trained on; None where nothing is kept.

    Args:
      folder: where folds are kept. Where there are several divisions, the first whole one counts.

    Raises:
      UserError: a file is damaged.
    """
    divisions: dict[str, list[Path]] = {}
    for path in files.entries(folder):
        if path.name.endswith(".npz") and "-fold" in path.stem:
            divisions.setdefault(path.stem.partition("-fold")[0], []).append(path)
    for paths in divisions.values():
        parts = [_part(path) for path in paths]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            console.hint(
                f"{folder}: its folds were kept by an older version, without what was said of each image"
            )
            continue
        return Predictions(
            tuple(name for part in known for name in part.names),
            *(
                np.concatenate([getattr(part, field) for part in known])
                for field in ("labels", "top_classes", "top_probabilities", "true_probability")
            ),
        )
    return None


def _part(path: Path) -> Predictions | None:
    try:
        archive = Archive(path)
        if "names" not in archive.record:
            return None
        return Predictions.of_archive(archive, "held_out", archive.record["names"])
    except (OSError, DamagedError) as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it, and the same command makes it again from the fold's run"
        ) from error
