"""`cdml reproduce`: every method under every seed, and the report."""

from __future__ import annotations

import argparse
import shlex

from cdml_jax.cli import arguments
from cdml_jax.cli.train import stopped
from cdml_jax.configuration.load import load_arguments
from cdml_jax.distributed.signals import Interrupted

TEXT = "train every method under every seed; print the table, draw the figures"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add_configured(commands, "reproduce", TEXT, more=" [--workdir=DIR]")
    arguments.add_new_workdir(parser, "reproduce")


def run(options: argparse.Namespace) -> int:
    """Reproduce the table and print it; returns the exit status."""
    loaded = load_arguments(options.rest)
    workdir = options.workdir or arguments.path(f"runs/{loaded.name}-reproduce")
    # Here: a mistake in a flag is answered before JAX is loaded.
    from cdml_jax.cli.actions.reproduce import reproduce
    from cdml_jax.methods import known_methods

    try:
        reproduce(
            loaded.settings,
            workdir,
            shlex.join(["cdml", *options.given]),
            known_methods(loaded.methods),
        )
    except Interrupted as stop:
        return stopped(stop)
    return 0
