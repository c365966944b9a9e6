"""What `cdml evaluate` prints and keeps of answers and their probabilities; `cdml calibrate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils.epath import Path

from cdml_jax.cli.actions.outcome import predictions_of
from cdml_jax.cli.actions.running import NO_CHANGES, prepare, refuse_trained_on, say_next, settings_for_use
from cdml_jax.configuration.settings import Settings, to_plain
from cdml_jax.confusion.costs import checked_costs
from cdml_jax.confusion.figures import macro_f1
from cdml_jax.data.classes import Classes
from cdml_jax.data.readers.cost_matrix import read_costs
from cdml_jax.distributed import processes
from cdml_jax.errors import UserError
from cdml_jax.reporting.answers import calibration_error, expected_cost, top_accuracy
from cdml_jax.reporting.evaluations import Evaluation, save
from cdml_jax.reporting.provenance import provenance
from cdml_jax.retrieval.figures import EmbeddingFigures
from cdml_jax.runs import calibration, workdir
from cdml_jax.runs.calibration import Calibration
from cdml_jax.runs.evaluation import TOP, Evaluated, logits_of, neighbourhood
from cdml_jax.runs.trained_weights import restore_for_evaluation
from cdml_jax.system import console
from cdml_jax.training.program import Program
from cdml_jax.training.settings import FILE

_MOST = 1 << 28  # logits that a calibration holds: 1 GiB


def costs_of(source: str, file: Path | None, classes: Classes) -> tuple[np.ndarray, str] | None:
    """The user's cost matrix and the file's name; None where there is none.

    Args:
      source: `confusion.source` of the run.
      file: given on the command line, which comes first.
      classes: of the run.

    Raises:
      UserError: the file that was given cannot be used.
    """
    named = str(file) if file else source.removeprefix(FILE) if source.startswith(FILE) else ""
    if not named:
        return None
    try:
        return checked_costs(read_costs(named, classes), classes.names), named.rpartition("/")[2]
    except (UserError, ValueError) as error:
        said = str(error).removeprefix("confusion.source: ")
        if file:
            raise UserError(f"--costs: {said}") from error
        console.warn(f"no expected cost is measured: {said}")
    return None


def print_answers(
    seen: Evaluated, split: str, calibrated: Calibration | None, costs: tuple[np.ndarray, str] | None
) -> None:
    """Top-5, macro F1, expected calibration error and, where there is a cost matrix, the expected cost."""
    if not len(seen.labels):
        return
    right = seen.top_classes[:, 0] == seen.labels
    parts = []
    if seen.top_classes.shape[1] == TOP:
        parts.append(f"top-{TOP} {top_accuracy(seen.labels, seen.top_classes):.2%}")
    counts = seen.counts.matrix
    if counts is not None:
        parts.append(f"macro F1 {macro_f1(np.asarray(counts)):.2%}")
    error = f"expected calibration error {calibration_error(seen.top_probabilities[:, 0], right):.2%}"
    if calibrated is not None and seen.calibrated_probability is not None:
        after = calibration_error(seen.calibrated_probability, right)
        error += f" ({after:.2%} at the temperature {calibrated.temperature:.3g} of cdml calibrate)"
    parts.append(error)
    if costs is not None and counts is not None:
        parts.append(f"expected cost {expected_cost(np.asarray(counts), costs[0]):.4g} by {costs[1]}")
    console.result(f"{split}: {', '.join(parts)}")


def keep_evaluation(
    folder: Path,
    program: Program[Settings],
    kept: Mapping[str, Any],
    split: str,
    seen: Evaluated,
    *,
    epoch: int,
    best: bool,
    figures: EmbeddingFigures | None,
) -> Path | None:
    """Write what was said of each image, of which reports are made; a folder that refuses is a warning."""
    near = neighbourhood(seen.embeddings)
    evaluation = Evaluation(
        method=program.config.method,
        title=kept["title"],
        seed=program.config.seed,
        split=split,
        epoch=epoch,
        best=best,
        predictions=predictions_of(program, split, seen, keep=False, near=near),
        embeddings=figures,
        provenance=provenance(
            to_plain(program.config),
            device=program.mesh.devices.flat[0].device_kind,
            devices=program.mesh.size,
        ),
    )
    try:
        return save(evaluation, folder)
    except UserError as error:
        console.warn(f"what was said of each image is not kept: {error}")
    return None


@processes.joined()
def calibrate(
    folder: Path, split: str, changes: Mapping[str, str] = NO_CHANGES, *, best: bool = False
) -> Calibration:
    """Fit a temperature on a split's images, print what it changes, and keep it in the run's folder.

    Args:
      folder: of the run.
      split: whose images; the test split would be chosen by.
      changes: text by dotted keys that say where things are now, such as `source`.
      best: whether it is the network of the best epoch by validation, not the last.

    Raises:
      UserError: the folder holds no run, has no such split, or trained on it.
    """
    stored = workdir.read_trained(folder)
    refuse_trained_on(stored, folder, split)
    program = prepare("train", settings_for_use(stored, changes), folder, split, stored=stored)
    state, epoch = restore_for_evaluation(folder, program, best=best)
    labels, logits = program.feed(split).labels, logits_of(program, state, split)
    if not len(labels):
        raise UserError(f"--split: there is no {split} image to fit a temperature on")
    step = max(1, -(-logits.size // _MOST))
    if step > 1:
        console.say(f"{len(labels):,} images are many: every {step}th is used")
        labels, logits = labels[::step], logits[::step]
    temperature = calibration.fit_temperature(logits, labels)
    right = logits.argmax(axis=1) == labels
    errors, losses = [], []
    for each in (1.0, temperature):
        scaled = logits.astype(np.float64) / each
        largest = scaled.max(axis=1, keepdims=True)
        errors.append(calibration_error(1 / np.exp(scaled - largest).sum(axis=1), right))
        losses.append(calibration.mean_loss(logits, labels, each))
    found = Calibration(temperature, epoch, split, len(labels), *losses, *errors)
    if processes.is_first():
        path = calibration.write(folder, found, best=best)
        console.result(
            f"temperature {temperature:.4g}, fitted on {len(labels):,} {split} images: expected calibration "
            f"error {errors[0]:.2%} before, {errors[1]:.2%} after; mean -log p {losses[0]:.4f} before, "
            f"{losses[1]:.4f} after"
        )
        if any(math.isclose(temperature, limit) for limit in calibration.LIMITS):
            console.warn(
                "the temperature stands at the limit of what is tried: the images are too few, or all called "
                "alike"
            )
        console.say(f"Kept in {path}: predict and export use it")
        say_next("evaluate", folder, " --split=test" if "test" in program.dataset.splits else "")
    return found
