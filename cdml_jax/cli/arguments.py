"""What the commands' flags share: paths, the workdir, the configuration, how much is printed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from etils.epath import Path

from cdml_jax.configuration.load import config_file, shipped_configs
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.files import path_of

_CONFIG_HELP = """\
configuration:
  --config=NAME             one that the package ships: {names}
  --config=FILE.py          or a file of your own with get_config()
  --config.KEY=VALUE        any key of it, dotted: --config.batch_size=96 --config.objective.margin=0.3
                            (all keys, with their meaning: {base})
"""

MOVED = (
    "The run's own configuration is used. Where its images were moved, --config.source=folder:DIR says where "
    "they are now."
)
# What may be said of a run that is only looked at: where things are, and how fast they are read.
_PLACES = (
    "source",
    "data.data_dir",
    "data.boxes",
    "data.check",
    "data.cache_bytes",
    "data.num_threads",
    "compilation_cache",
)


def path(text: str) -> Path:
    """A path that a person gives: `~` is their home folder, also behind `=`, where no shell expands it.

    Raises:
      ArgumentTypeError: no home folder is known.
    """
    try:
        return path_of(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add(commands: argparse._SubParsersAction, name: str, text: str, **options: Any) -> Any:
    """A command's parser, with the flags that every command has.

    Args:
      commands: of the main parser.
      name: the command.
      text: what it does, a line.
      **options: for `argparse.ArgumentParser`.
    """
    parser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False, **options
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=console.Verbosity.QUIET,
        default=console.Verbosity.NORMAL,
        help="print results and warnings alone",
    )
    loudness.add_argument(
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=console.Verbosity.VERBOSE,
        help="print what runs where and how much memory it takes, too",
    )
    return parser


def add_configured(commands: argparse._SubParsersAction, name: str, text: str, *, more: str = "") -> Any:
    """The parser of a command that takes a configuration; `more` ends its usage line."""
    return add(
        commands,
        name,
        text,
        epilog=_CONFIG_HELP.format(names=", ".join(shipped_configs()), base=config_file("base")),
        usage=f"cdml {name} --config=NAME [--config.KEY=VALUE ...]{more} [--quiet | --verbose]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_new_workdir(parser: argparse.ArgumentParser, command: str) -> None:
    """The flag of a folder for a run."""
    parser.add_argument(
        "--workdir",
        type=path,
        metavar="DIR",
        help=f"where the run is kept; runs/NAME-{command} if not given",
    )


def add_workdir(parser: argparse.ArgumentParser) -> None:
    """The flag of a folder that holds a run."""
    parser.add_argument("--workdir", type=path, metavar="DIR", required=True, help="of the trained run")
    parser.add_argument("--best", action="store_true", help="use the best epoch by validation, not the last")


def add_network(parser: argparse.ArgumentParser) -> None:
    """The flags of a network that is used as it is: a trained run's, or a configuration's."""
    parser.add_argument(
        "--workdir",
        type=path,
        metavar="DIR",
        help="of the trained run; without it, --config=NAME [--config.KEY=VALUE ...] names a network",
    )
    parser.add_argument("--best", action="store_true", help="use the best epoch by validation, not the last")


def add_image_size(parser: argparse.ArgumentParser) -> None:
    """The flag of the square that the network sees of a whole photograph."""
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the square to which a whole photograph is squeezed; that of the network if not given",
    )


def check_image_size(options: argparse.Namespace) -> None:
    """Refuse a side of no pixel.

    Raises:
      UserError: it is below 1.
    """
    if options.image_size is not None and options.image_size < 1:
        raise UserError(f"--image-size: must be at least 1, not {options.image_size}")


def refuse_but_configuration(command: str, rest: Sequence[str]) -> None:
    """Refuse arguments that neither a command nor a configuration has.

    Raises:
      UserError: there are any; the first is named.
    """
    refuse(command, [a for a in rest if not a.startswith(("--config=", "--config."))])


def refuse(command: str, rest: Sequence[str], advice: str = "") -> None:
    """Refuse arguments that a command does not have.

    Raises:
      UserError: there are any; the first is named.
    """
    if rest:
        raise UserError(f"{command}: unknown argument {rest[0]!r}{advice}")


def places(command: str, rest: Sequence[str]) -> dict[str, str]:
    """The keys by which a command that only looks at a run learns where things are now, as text.

    Raises:
      UserError: an argument of another kind.
    """
    found = {}
    for argument in rest:
        key, equals, value = argument.removeprefix("--config.").partition("=")
        if not argument.startswith("--config.") or not equals or key not in _PLACES:
            raise UserError(
                f"{command}: unknown argument {argument!r}; the run's own configuration is used, and "
                "--config.source=folder:DIR says where its images are now"
            )
        found[key] = value
    return found
