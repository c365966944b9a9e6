"""`cdml train`: one method under one seed."""

from __future__ import annotations

import argparse
import sys

from cdml_jax.cli import arguments
from cdml_jax.configuration.load import load_arguments
from cdml_jax.distributed.signals import Interrupted

TEXT = "train one method (--config.method) under one seed; the same command continues a stopped run"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add_configured(commands, "train", TEXT, more=" [--workdir=DIR]")
    arguments.add_new_workdir(parser, "train")


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    loaded = load_arguments(options.rest)
    workdir = options.workdir or arguments.path(f"runs/{loaded.name}-train")
    # Here: a mistake in a flag is answered before JAX is loaded.
    from cdml_jax.cli.actions.train import train
    from cdml_jax.methods import known_methods

    try:
        train(
            loaded.settings,
            workdir,
            known_methods(loaded.methods),
        )
    except Interrupted as stop:
        return stopped(stop)
    return 0


def stopped(stop: Interrupted) -> int:
    """Say where a run was interrupted; returns the exit status."""
    print(f"cdml: stopped at step {stop.step}; the same command continues there", file=sys.stderr)
    return 128 + stop.signal_number
