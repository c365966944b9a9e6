"""`cdml train`: one method under one seed."""

from __future__ import annotations

import argparse
import sys

from cdml_jax.cli import arguments
from cdml_jax.configuration.load import load_arguments
from cdml_jax.distributed.signals import Interrupted
from cdml_jax.errors import UserError

TEXT = "train one method (--config.method) under one seed; the same command continues a stopped run"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add_configured(commands, "train", TEXT, more=" [--workdir=DIR] [--folds=N]")
    arguments.add_new_workdir(parser, "train")
    parser.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="train N models instead, each without one fold of the training and validation images, and print "
        "how accurate they are on images that they have not seen",
    )


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    loaded = load_arguments(options.rest)
    if options.folds is not None and options.folds < 2:
        raise UserError(f"--folds: must be at least 2, not {options.folds}")
    workdir = options.workdir or arguments.path(f"runs/{loaded.name}-train")
    # Here: a mistake in a flag is answered before JAX is loaded.
    from cdml_jax.cli.actions.folds import train_folds
    from cdml_jax.cli.actions.train import train
    from cdml_jax.methods import known_methods

    methods = known_methods(loaded.methods)
    try:
        if options.folds is None:
            train(loaded.settings, workdir, methods)
        else:
            train_folds(loaded.settings, workdir, options.folds, methods)
    except Interrupted as stop:
        return stopped(stop)
    return 0


def stopped(stop: Interrupted) -> int:
    """Say where a run was interrupted; returns the exit status."""
    print(f"cdml: stopped at step {stop.step}; the same command continues there", file=sys.stderr)
    return 128 + stop.signal_number
