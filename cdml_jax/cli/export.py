"""`cdml export`: the network of a trained run as one file."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments
from cdml_jax.cli.images import trained_run
from cdml_jax.system import console, files

TEXT = "write the network as one file that JAX runs without this package"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "export", TEXT)
    arguments.add_workdir(parser)
    parser.add_argument(
        "--out", type=arguments.path, metavar="FILE", required=True, help="names go to FILE.json"
    )


def run(options: argparse.Namespace) -> int:
    """Write the file; returns the exit status."""
    arguments.refuse("export", options.rest)
    trained = trained_run(options.workdir, best=options.best)
    from cdml_jax.inference.export import beside, export  # here: JAX is loaded after mistakes in flags

    platforms = export(trained, options.out)
    size, names = files.size(options.out) / 2**20, beside(options.out)
    console.result(f"{options.out}: {size:.1f} MiB, runs on {', '.join(platforms)}. Names: {names}")
    console.say('Next: jax.export.deserialize reads it, as README.md shows under "Using a trained run"')
    return 0
