"""Training without the command line: settings and a data set in, a trained run out."""

from __future__ import annotations

import contextlib
import dataclasses
import os

import jax
import numpy as np

from cdml_jax.configuration.checks import check
from cdml_jax.configuration.datasets import noisy
from cdml_jax.configuration.fitting import as_begun, fitted
from cdml_jax.configuration.settings import Settings
from cdml_jax.configuration.styles import styled
from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.checking.verify import verify
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.dividing.boxes import cut_out
from cdml_jax.data.sources import IN_MEMORY
from cdml_jax.distributed.mesh import devices_here
from cdml_jax.errors import UserError
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.methods import Method, named_method
from cdml_jax.runs.beginning import beginning, refuse_method
from cdml_jax.runs.claims import claim, held
from cdml_jax.runs.loop import fit
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.runs.workdir import begun_with
from cdml_jax.system import console
from cdml_jax.system.compilation_cache import keep_compiled
from cdml_jax.system.files import path_of
from cdml_jax.training.program import Program


def train(
    settings: Settings,
    dataset: Dataset,
    method: str | Method = "cdml",
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    quiet: bool = False,
) -> TrainedRun:
    """Train one method under one seed.

    Args:
      settings: such as `cdml_jax.settings` gives. The arguments stand in the place of `source`, `method`,
        `seed` and the splits of `data`; `mesh.cpu_devices` and `reproduce` are for the command line alone.
      dataset: with a training split, and others where they are wanted. It is checked as the command line
        checks what it reads, images too if `data.check`.
      method: the name of one of the package's, or a method of your own.
      seed: of the initial parameters, the order of the data, the augmentation and the draws.
      workdir: where checkpoints and logs are kept, for `cdml_jax.load` and the command line, and from where
        the same call continues a run that was stopped; None keeps nothing.
      quiet: print warnings alone.

    Returns:
      The trained run, to be called on images.

    Raises:
      UserError: an argument is of another type, the data set is not right, settings, data set and method do
        not go together, the folder holds another run, or the loss is not finite.
    """
    with console.verbosity(console.Verbosity.QUIET if quiet else None):
        return _train(settings, dataset, method, seed, workdir)


def _train(
    settings: Settings, dataset: Dataset, method: str | Method, seed: int, workdir: str | os.PathLike | None
) -> TrainedRun:
    for name, value, kind in (
        ("settings", settings, Settings),
        ("dataset", dataset, Dataset),
        ("method", method, str | Method),
        ("seed", seed, int),
    ):
        if not isinstance(value, kind):
            known = getattr(kind, "__name__", "a method's name or a Method")
            raise UserError(f"{name} must be {known}, not {type(value).__name__}")
    if "train" not in dataset.splits:
        raise UserError(f"dataset: {dataset.name} has no split train; it has {', '.join(dataset.splits)}")
    chosen = named_method(method) if isinstance(method, str) else method
    name = method if isinstance(method, str) else chosen.title
    # The data set's own splits are those that there are.
    data = dataclasses.replace(settings.data, holdout="holdout" if "holdout" in dataset.splits else "")
    source = f"{IN_MEMORY}{dataset.name}"
    settings = styled(dataclasses.replace(settings, source=source, data=data, method=name, seed=seed))
    folder = path_of(workdir) if workdir is not None else None
    if folder is not None:
        settings = as_begun(settings, begun_with(folder))
    check(settings)
    keep_compiled(settings.compilation_cache)
    dataset = verify(dataset, Problems(dataset.name), cache=None, images=settings.data.check)
    dataset = noisy(cut_out(dataset, settings.data.boxes), settings.data.label_noise)
    settings = fitted(settings, dataset, devices_here())
    fill = beginning(settings, dataset.classes)
    program = Program(settings, dataset, structure=chosen.structure, fill=fill)
    program.check_weights()
    refuse_method(chosen, program)
    alone: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if folder is not None:
        claim("train", settings, folder, dataset, chosen)
        alone = held(folder)
    with alone:
        run = fit(program, chosen, seed, folder=folder, save_last=folder is not None, keep_best=True)
    parameters, statistics = jax.tree.map(np.asarray, run.state.in_use)
    weights = Weights(parameters, statistics, run.counts.on_host(), run.epoch)
    return TrainedRun(settings, dataset.name, dataset.classes, program.graph, weights)
