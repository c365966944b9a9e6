"""`cdml evaluate`: figures and the confusion of a trained run."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments
from cdml_jax.errors import UserError

# What may be said of a run that is only looked at: where things are, and how fast they are read.
KEYS = (
    "source",
    "data.data_dir",
    "data.check",
    "data.cache_bytes",
    "data.num_threads",
    "compilation_cache",
)

TEXT = "evaluate what `cdml train` left in a workdir, and draw its confusion"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(
        commands,
        "evaluate",
        TEXT,
        epilog="The run's own configuration is used. Where its images were moved, "
        "--config.source=folder:DIR says where they are now.",
    )
    arguments.add_workdir(parser)
    parser.add_argument("--split", default="validation", choices=("validation", "test"), help="(validation)")


def run(options: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    changes = _changes(options.rest)
    from cdml_jax.cli.actions.evaluate import (
        evaluate,  # here: a mistake in a flag is answered before JAX is loaded
    )

    evaluate(options.workdir, options.split, changes, best=options.best)
    return 0


def _changes(rest: list[str]) -> dict[str, str]:
    """The keys that are given, with their values as text.

    Raises:
      UserError: an argument of another kind.
    """
    found = {}
    for argument in rest:
        key, equals, value = argument.removeprefix("--config.").partition("=")
        if not argument.startswith("--config.") or not equals or key not in KEYS:
            raise UserError(
                f"evaluate: unknown argument {argument!r}; the run's own configuration is used, and "
                "--config.source=folder:DIR says where its images are now"
            )
        found[key] = value
    return found
