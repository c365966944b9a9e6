"""One method on folds: how accurate it is on images that it was not trained on, over all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from etils.epath import Path

from cdml_jax.cli.actions.evaluate import print_counts, show_confusion
from cdml_jax.cli.actions.running import prepare
from cdml_jax.configuration.settings import Settings
from cdml_jax.confusion import DenseConfusion
from cdml_jax.confusion.figures import accuracy
from cdml_jax.distributed import processes
from cdml_jax.distributed.signals import Stop
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS, Method, named_method
from cdml_jax.runs.claims import held
from cdml_jax.runs.cross_validation import cross_validate
from cdml_jax.system import console
from cdml_jax.training.program import Program


@processes.joined()
def train_folds(
    config: Settings, folder: Path, folds: int, methods: Mapping[str, Method] = METHODS
) -> np.ndarray:
    """Train the method `config.method` on folds and print its figures on the held-out images.

    Finished folds are kept in `folder`/folds and not trained again. The folder may hold a run of the same
    configuration too.

    Args:
      config: the settings.
      folder: the workdir.
      folds: how many, over training and validation images.
      methods: by name: the package's, and those of the configuration file.

    Returns:
      (folds, C, C) int64 confusion counts of the held-out images.
    """
    method = named_method(config.method, methods)
    if config.early_stopping:
        raise UserError(
            "early_stopping: the held-out images would choose the epoch; set it to 0 with --folds"
        )
    program = prepare("train", config, folder, methods=[method])
    config = program.config
    if program.storage.name == "top":
        raise UserError(
            "confusion.storage: top keeps no confusion matrix, from which the figures of folds are made; use "
            "confusion.storage=by_class"
        )
    _check_folds(program, folds)
    pooled = [name for name in ("train", "validation") if name in program.feeds]
    left_out = [name for name in program.feeds if name not in pooled]
    console.say(
        f"{folds} models, each without one fold of all {' and '.join(pooled)} images"
        + (f"; {' and '.join(left_out)} images are left out" if left_out else "")
    )
    with held(folder), Stop().listening() as stop:
        counts = cross_validate(
            program,
            config.method,
            method,
            config.seed,
            folds=folds,
            # A run may be continued for more epochs; folds of fewer are others.
            folder=folder / "folds" / f"epochs{config.epochs}",
            stop=stop,
        )
    if processes.is_first():
        whole = DenseConfusion(counts.sum(axis=0))
        print_counts(whole, "held out", program.dataset.classes)
        console.result(f"the {folds} folds: top-1 {', '.join(f'{accuracy(fold):.2%}' for fold in counts)}")
        title = f"{method.title} on {program.dataset.name}"
        show_confusion(whole, title, "held_out", program.dataset, folder)
        console.say("Next: the same command without --folds trains one model, to be used")
    return counts


def _check_folds(program: Program[Settings], folds: int) -> None:
    """Refuse more folds than images; name the classes that a fold takes from training whole."""
    sizes = np.zeros(program.dataset.num_classes, int)
    for name in ("train", "validation"):
        if name in program.feeds:
            sizes += np.bincount(program.feeds[name].labels, minlength=sizes.size)
    if folds > sizes.sum():
        raise UserError(f"--folds: {folds} exceeds the {sizes.sum():,} images")
    single = np.flatnonzero(sizes == 1)
    if single.size:
        names = program.dataset.classes.names
        console.warn(
            f"classes of one image, which are not trained in the fold that holds it out: {single.size:,}, "
            f"such as {names[single[0]]}"
        )
