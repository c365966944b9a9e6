"""`cdml descriptors`: the table of descriptors that need no training, on a data set with a test split."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments
from cdml_jax.configuration.load import load_arguments

TEXT = "measure what a pretrained network's feature maps retrieve and localize without training"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add_configured(commands, "descriptors", TEXT, more=" [--workdir=DIR]")
    parser.add_argument(
        "--workdir",
        type=arguments.path,
        metavar="DIR",
        help="where the table, the boxes and the picture are kept; runs/NAME-descriptors if not given",
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    loaded = load_arguments(options.rest)
    from cdml_jax.cli.actions.descriptors import measure  # here: a mistake in a flag is answered before
    from cdml_jax.inference.pretrained import pretrained
    from cdml_jax.system.compilation_cache import keep_compiled

    settings = loaded.settings
    keep_compiled(settings.compilation_cache)
    folder = options.workdir or arguments.path(f"runs/{loaded.name}-descriptors")
    measure(pretrained(settings), settings, folder)
    return 0
