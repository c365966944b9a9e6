"""`cdml COMMAND …`: the parser of all commands, and what becomes of mistakes, signals and closed pipes."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from typing import Any

import cdml_jax
from cdml_jax.cli import (
    calibrate,
    check,
    compare,
    compile,
    config,
    descriptors,
    embed,
    evaluate,
    export,
    lacking,
    localize,
    predict,
    prepare,
    report,
    reproduce,
    search,
    train,
)
from cdml_jax.cli.output import CLOSED_PIPE, OutputError, careful_output
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.huge_pages import restart_with_huge_pages

COMMANDS = {
    "train": train,
    "reproduce": reproduce,
    "config": config,
    "compile": compile,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "compare": compare,
    "report": report,
    "check": check,
    "prepare": prepare,
    "predict": predict,
    "embed": embed,
    "search": search,
    "localize": localize,
    "descriptors": descriptors,
    "export": export,
}
_EXAMPLES = """\
examples:
  cdml reproduce --config=demo
  cdml train --config=demo --config.method=baseline --workdir=runs/baseline
  cdml train --config=own_images --config.source=folder:~/photographs --workdir=runs/mine
  cdml evaluate --workdir=runs/mine --split=test
  cdml compare runs/mine runs/other
  cdml report --workdir=runs/mine
  cdml predict --workdir=runs/mine photo.jpg
  cdml compile --config=inat2021 --topology=v5e:8x8 --price=1.2
"""


def start() -> int:
    """The `cdml` script: `main`, in huge pages."""
    restart_with_huge_pages()
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
      The exit status: 0; 2 for a user's mistake; 128 + the signal for a run that was interrupted; 141 where
      nobody reads what is printed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with careful_output():
            return _answered(given)
    except OutputError as error:
        if error.closed_pipe:
            return CLOSED_PIPE
        print(f"cdml: {console.harmless(str(error))}", file=sys.stderr)
        return 2


def _answered(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except UserError as error:
        print(f"cdml: {console.harmless(str(error))}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        return lacking(error)
    except KeyboardInterrupt:
        print("cdml: stopped at once; what was saved before stays", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    options, rest = parser().parse_known_args(arguments)
    if options.command == "help":
        parser().parse_args([*options.about, "--help"])
    options.given, options.rest = arguments, rest
    console.set_verbosity(options.verbosity)
    return COMMANDS[options.command].run(options)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; a configuration's flags are what it leaves."""
    whole = argparse.ArgumentParser(
        prog="cdml",
        description="Cost-sensitive deep metric learning for fine-grained image classification.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action=_Version, help="print the versions of cdml_jax, jax and Python")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add(commands)
    about = commands.add_parser(
        "help", help="print the flags of a command: cdml help COMMAND", allow_abbrev=False
    )
    about.add_argument("about", nargs="*", metavar="COMMAND")
    return whole


class _Version(argparse.Action):
    """Prints the versions; they are looked up only then, and nothing is imported for it."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            of_jax = importlib.metadata.version("jax")
        except importlib.metadata.PackageNotFoundError:
            of_jax = "is not installed"
        print(f"cdml_jax {cdml_jax.__version__}, jax {of_jax}, Python {platform.python_version()}")
        parser.exit()
