"""`cdml compare`: two trained runs on the same images."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments

TEXT = "compare two trained runs on the same images: intervals, McNemar's test, classes that gained and lost"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "compare", TEXT)
    for name in "ab":
        parser.add_argument(
            name,
            type=arguments.path,
            metavar=name.upper(),
            help="workdir of `cdml train`, or of one run of a table: TABLE/runs/METHOD-seedN",
        )
    parser.add_argument("--split", default="validation", choices=("validation", "test"), help="(validation)")


def run(options: argparse.Namespace) -> int:
    """Compare them; returns the exit status."""
    changes = arguments.places("compare", options.rest)
    # Here: a mistake in a flag is answered before JAX is loaded.
    from cdml_jax.cli.actions.compare import compare

    compare(options.a, options.b, options.split, changes)
    return 0
