"""`cdml config`: every setting of a configuration as it is resolved."""

from __future__ import annotations

import argparse
import dataclasses
import shlex

from cdml_jax.cli import arguments
from cdml_jax.configuration import keys
from cdml_jax.configuration.load import load_arguments
from cdml_jax.system import console

TEXT = "print every setting as a flag, and what configs/base.py has where it differs"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    arguments.add_configured(commands, "config", TEXT)


def run(options: argparse.Namespace) -> int:
    """Print the settings; returns the exit status."""
    settings = load_arguments(options.rest).settings
    base = keys.flat(keys.defaults())
    for key, value in keys.flat(dataclasses.asdict(settings)).items():
        flag = shlex.quote(f"--config.{key}={keys.text_of(value)}")
        differs = f"  # base: {keys.text_of(base[key])}" if value != base[key] else ""
        console.result(flag + differs)
    console.hint(f"Next: cdml train {shlex.join(options.rest)}")
    return 0
