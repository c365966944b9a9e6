"""`cdml evaluate`: figures and the confusion of a trained run."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments

TEXT = "evaluate what `cdml train` left in a workdir, and draw its confusion"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(
        commands,
        "evaluate",
        TEXT,
        epilog=arguments.MOVED,
    )
    arguments.add_workdir(parser)
    parser.add_argument("--split", default="validation", choices=("validation", "test"), help="(validation)")
    parser.add_argument(
        "--costs",
        type=arguments.path,
        metavar="FILE.csv",
        help="what each confusion costs, as confusion.source=file: takes it: the expected cost is printed",
    )


def run(options: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    changes = arguments.places("evaluate", options.rest)
    from cdml_jax.cli.actions.evaluate import (
        evaluate,  # here: a mistake in a flag is answered before JAX is loaded
    )

    evaluate(options.workdir, options.split, changes, best=options.best, costs=options.costs)
    return 0
