"""The model card of a run: written when it has been trained, with what is measured later added."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from etils.epath import Path

from cdml_jax.configuration import keys
from cdml_jax.configuration.settings import Settings, defaults, to_plain
from cdml_jax.data.classes import Classes
from cdml_jax.distributed import processes
from cdml_jax.errors import UserError
from cdml_jax.methods import Method
from cdml_jax.models.weights.origin import origin_of
from cdml_jax.reporting import card
from cdml_jax.reporting.card import Card, SplitFigures
from cdml_jax.reporting.provenance import provenance
from cdml_jax.runs.best import best_of
from cdml_jax.runs.checkpoint import Run
from cdml_jax.system import console
from cdml_jax.training.program import Program


def write_card(
    folder: Path,
    program: Program[Settings],
    settings: Settings,
    method: Method,
    run: Run,
    figures: Mapping[str, SplitFigures | None],
    *,
    say: bool = True,
) -> None:
    """Write the card of a finished run; one that cannot be written is a warning.

    Args:
      folder: the run's.
      program, run: what was trained.
      settings: of this run.
      method: what was trained.
      figures: by what was evaluated; None where there is nothing to measure.
      say: print where the card is.
    """
    if not processes.is_first():
        return
    dataset, network = program.dataset, settings.model
    flat, usual = keys.flat(to_plain(settings)), keys.flat(to_plain(defaults()))
    number = dataset.num_classes
    sizes = {
        split: np.bincount(np.asarray(source.labels), minlength=number)[:number].tolist()
        for split, source in dataset.splits.items()
        if split != "test" or dataset.test_class_names is None
    }
    made = Card(
        dataset=dataset.name,
        method=method.title,
        seed=settings.seed,
        epochs=run.epoch,
        sizes=sizes,
        network=network.name,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(run.state.parameters)),
        weights=origin_of(network.weights, network.name),
        provenance=provenance(
            {key: value for key, value in flat.items() if value != usual[key]},
            device=program.mesh.devices.flat[0].device_kind,
            devices=program.mesh.size,
        ),
        figures={of: found for of, found in figures.items() if found is not None},
    )
    before = card.read(folder)
    if before is not None and before.epochs == run.epoch:
        # Nothing was trained since: when and where it was, and what was measured, stays.
        made = dataclasses.replace(
            made, provenance=before.provenance, figures={**before.figures, **made.figures}
        )
    _write(folder, made, dataset.classes, say=say)


def add_to_card(folder: Path, classes: Classes, of: str, figures: SplitFigures | None) -> None:
    """Add figures to the card of a run, where it has one."""
    if figures is None:
        return
    made = card.read(folder)
    if made is not None:
        _write(folder, made.with_figures(of, figures), classes)


def looks(program: Program[Settings], run: Run) -> dict[str, SplitFigures]:
    """What the last look at the validation images, and the best one, have found."""
    number = len(program.dataset.splits.get("validation", ()))
    found = {}
    for of, entry in (("validation", run.history[-1]), ("validation, best epoch", best_of(run.history))):
        if entry is not None and "validation_accuracy" in entry and number:
            found[of] = SplitFigures(
                images=number,
                correct=round(entry["validation_accuracy"] * number),
                mean_class_error=entry["validation_mean_class_error"],
                epoch=entry["epoch"],
            )
    return found


def _write(folder: Path, made: Card, classes: Classes, *, say: bool = True) -> None:
    try:
        page = card.write(folder, made, classes)
    except UserError as error:
        console.warn(f"the model card is not written: {error}")
        return
    if say:
        console.say(f"Model card: {page}")
