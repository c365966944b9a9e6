"""What a finished run of a table leaves: counts, predictions, figures of its embeddings, and their origin."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cdml_jax.configuration.settings import Settings, to_plain
from cdml_jax.distributed import processes
from cdml_jax.methods import Method
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.provenance import provenance
from cdml_jax.reporting.results import RunResult
from cdml_jax.runs.checkpoint import Run
from cdml_jax.runs.evaluation import (
    Evaluated,
    Neighbourhood,
    evaluate_split,
    measure,
    measured_embedding,
    neighbourhood,
)
from cdml_jax.training.program import Program


def settings_of_run(config: Settings, name: str, seed: int) -> Settings:
    """The settings of one run of a table."""
    return dataclasses.replace(config, method=name, seed=seed)


def result_of(
    program: Program[Settings],
    name: str,
    method: Method,
    seed: int,
    run: Run,
    held_out: np.ndarray | None = None,
    operations: float = math.nan,
) -> RunResult:
    """What a finished run of a table leaves; every process calls it.

    Each split is passed over once, for counts and predictions. Of folds, only the baseline's counts
    `held_out` are validation counts, and validation images have no predictions: they were trained on.

    Args:
      program, run: the run, after its last step.
      name, method, seed: whose it is.
      held_out: (C, C) counts of the baseline on folds; None where the validation split is kept apart.
      operations: of the program's step, for each image.
    """
    config = program.config
    embedding, keep = measured_embedding(config, method), config.reproduce.embeddings
    validation = None
    if held_out is None:
        seen = evaluate_split(program, run.state, "validation", embedding if keep else "")
        validation = predictions_of(program, "validation", seen, keep=keep)
        validation_counts = np.asarray(seen.counts.matrix)
    else:
        validation_counts = held_out if name == "baseline" else np.zeros_like(held_out)
    # Read once, by the last step's model: nothing is chosen by it.
    tested = evaluate_split(program, run.state, "test", embedding)
    # One seed's map of each method is enough to look at.
    near = neighbourhood(tested.embeddings, mapped=seed == config.seed) if processes.is_first() else None
    return RunResult(
        method=name,
        seed=seed,
        steps=int(run.state.step),
        seconds=run.seconds,
        validation_counts=validation_counts,
        test_counts=np.asarray(tested.counts.matrix),
        history=run.history,
        # The first process alone writes results.
        embeddings=measure(tested.embeddings, tested.labels, embedding) if processes.is_first() else None,
        validation=validation,
        test=predictions_of(program, "test", tested, keep=keep, near=near),
        provenance=provenance(
            to_plain(settings_of_run(config, name, seed)),
            device=program.mesh.devices.flat[0].device_kind,
            devices=program.mesh.size,
        ),
        updates=program.updates,
        operations=operations,
    )


def operations_of(program: Program[Settings]) -> float:
    """Floating-point operations of a training step for each image, forward and backward; NaN if not counted.

    As XLA counts them before it optimises: the step is traced for it and not compiled. Of a loop's body one
    turn counts.
    """
    lowered = program.step.lower(program.abstract_state(), program.abstract_batch(), program.abstract_costs())
    return float((lowered.cost_analysis() or {}).get("flops", math.nan)) / program.config.batch_size


def predictions_of(
    program: Program[Settings],
    split: str,
    seen: Evaluated,
    *,
    keep: bool,
    near: Neighbourhood | None = None,
) -> Predictions:
    """What is kept of a pass over a split; embeddings where they are to be kept, and what is near what."""
    feed = program.feed(split)
    return Predictions(
        names=tuple(feed.name(index) for index in range(len(feed))),
        labels=seen.labels,
        top_classes=seen.top_classes,
        top_probabilities=seen.top_probabilities,
        true_probability=seen.true_probability,
        embeddings=seen.embeddings if keep else None,
        calibrated_probability=seen.calibrated_probability,
        **(near._asdict() if near else {}),
    )
