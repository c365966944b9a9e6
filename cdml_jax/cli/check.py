"""`cdml check`: whether all of a run is as it was written."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments
from cdml_jax.errors import UserError

TEXT = "read all of a run that is under a digest, its images too, and name what is damaged or edited"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "check", TEXT, epilog=arguments.MOVED)
    parser.add_argument(
        "workdir", nargs="?", type=arguments.path, metavar="WORKDIR", help="of the run or table"
    )
    parser.add_argument(
        "--show",
        type=arguments.path,
        metavar="FILE",
        help="print the record of a result (results/METHOD-seedN.npz) as JSON instead",
    )


def run(options: argparse.Namespace) -> int:
    """Check the run; returns the exit status: 0, or 1 where something is wrong."""
    changes = arguments.places("check", options.rest)
    if (options.workdir is None) == (options.show is None):
        raise UserError("check: give a workdir, or --show=FILE")
    # Here: a mistake in a flag is answered before JAX is loaded.
    from cdml_jax.cli.actions.check import check, show

    if options.show is not None:
        show(options.show)
        return 0
    return 1 if check(options.workdir, changes) else 0
