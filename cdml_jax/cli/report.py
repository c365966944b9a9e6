"""`cdml report`: one page that a browser opens from disk, made of stored results."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments
from cdml_jax.errors import UserError

TEXT = "make a page of what is confused with what, with the photographs, from stored results"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(
        commands,
        "report",
        TEXT,
        epilog="A run of cdml train has results once cdml evaluate has seen it. " + arguments.MOVED,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        type=arguments.path,
        metavar="RUN",
        help="workdir of `cdml train`, of `cdml reproduce`, or of one run of a table; several are compared",
    )
    parser.add_argument("--workdir", type=arguments.path, metavar="DIR", help="the same as one RUN")
    parser.add_argument(
        "--split",
        default="",
        choices=("validation", "test"),
        help="whose images (test where they have been evaluated, else validation)",
    )
    parser.add_argument(
        "--best", action="store_true", help="what was evaluated of the best epoch by validation"
    )
    parser.add_argument(
        "--out",
        type=arguments.path,
        metavar="FILE.html",
        help="the page (report.html in the run's folder; of several runs, here)",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page; returns the exit status."""
    changes = arguments.places("report", options.rest)
    runs = [*options.runs, *([options.workdir] if options.workdir else [])]
    if not runs:
        raise UserError("report: name a run's folder, as in cdml report --workdir=runs/mine")
    if options.out is not None and options.out.suffix != ".html":
        raise UserError(f"--out: {options.out} does not end in .html")
    from cdml_jax.cli.actions.report import report  # here: mistakes in flags come before JAX

    report(runs, options.split, changes, out=options.out, best=options.best)
    return 0
