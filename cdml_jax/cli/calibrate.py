"""`cdml calibrate`: the temperature at which a trained run's probabilities are as often right as they say."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments

TEXT = "fit a temperature to a trained run's probabilities, which predict and export then use"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "calibrate", TEXT, epilog=arguments.MOVED)
    arguments.add_workdir(parser)
    parser.add_argument(
        "--split",
        default="validation",
        choices=("validation", "test"),
        help="whose images; figures of the same images are then too good (validation)",
    )


def run(options: argparse.Namespace) -> int:
    """Calibrate; returns the exit status."""
    changes = arguments.places("calibrate", options.rest)
    from cdml_jax.cli.actions.answers import calibrate  # here: mistakes in flags come before JAX

    calibrate(options.workdir, options.split, changes, best=options.best)
    return 0
