"""Training without the command line: settings and a data set in, a trained run out."""

from __future__ import annotations

import contextlib
import dataclasses
import os

import jax
import numpy as np

from cdml_jax.configuration.checks import check
from cdml_jax.configuration.settings import Settings
from cdml_jax.configuration.styles import styled
from cdml_jax.data.dataset import Dataset
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.methods import Method, named_method
from cdml_jax.runs.beginning import beginning
from cdml_jax.runs.claims import claim, held
from cdml_jax.runs.loop import fit
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.system.files import path_of
from cdml_jax.training.program import Program


def train(
    settings: Settings,
    dataset: Dataset,
    method: str | Method = "cdml",
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
) -> TrainedRun:
    """Train one method under one seed.

    Args:
      settings: such as `cdml_jax.settings` gives; `source`, `method` and `seed` are not used.
      dataset: with a training split, and others where they are wanted.
      method: the name of one of the package's, or a method of your own.
      seed: of the initial parameters, the order of the data, the augmentation and the draws.
      workdir: where checkpoints and logs are kept, for `cdml_jax.load` and the command line, and from where
        the same call continues a run that was stopped; None keeps nothing.

    Returns:
      The trained run, to be called on images.

    Raises:
      UserError: settings, data set and method do not go together, the folder holds another run, or the loss
        is not finite.
    """
    chosen = named_method(method) if isinstance(method, str) else method
    name = method if isinstance(method, str) else chosen.title
    settings = styled(dataclasses.replace(settings, source=dataset.name, method=name, seed=seed))
    check(settings)
    program = Program(
        settings, dataset, structure=chosen.structure, fill=beginning(settings, dataset.classes)
    )
    program.check_weights()
    folder = path_of(workdir) if workdir is not None else None
    alone: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if folder is not None:
        claim("train", settings, folder, dataset, chosen)
        alone = held(folder)
    with alone:
        run = fit(program, chosen, seed, folder=folder, save_last=folder is not None, keep_best=True)
    parameters, statistics = jax.tree.map(np.asarray, run.state.in_use)
    weights = Weights(parameters, statistics, run.counts.on_host(), run.epoch)
    return TrainedRun(settings, dataset.name, dataset.classes, program.graph, weights)
