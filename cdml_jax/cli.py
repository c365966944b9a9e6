"""`cdml prepare | train | evaluate | reproduce | predict | embed | export`: flags in, calls out."""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cdml_jax import cli_use
from cdml_jax.errors import UserError
from cdml_jax.huge_pages import restart_with_huge_pages

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_CONFIG_HELP = """\
configuration:
  --config=NAME             one that the package ships: {names}
  --config=FILE.py          or a file of your own with get_config()
  --config.KEY=VALUE        any key of it, dotted: --config.batch_size=96 --config.objective.margin=0.3
                            (all keys, with their meaning: {base})
"""
_EXAMPLES = """\
examples:
  cdml reproduce --config=demo
  cdml train --config=demo --config.row=baseline --workdir=runs/baseline
  cdml train --config=own_images --config.source=folder:~/photographs --workdir=runs/mine
  cdml evaluate --workdir=runs/mine --split=test
  cdml predict --workdir=runs/mine photo.jpg
"""


def start() -> int:
    """The `cdml` script: `main`, in huge pages."""
    restart_with_huge_pages()
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a user's mistake, 128 + signal if interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(arguments)
    except UserError as error:
        print(f"cdml: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cdml: stopped at once; what was saved before stays", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    options, rest = _parser().parse_known_args(arguments)
    if options.command in cli_use.COMMANDS:
        return cli_use.run_command(options, rest)
    if options.command == "evaluate":
        if rest:
            raise UserError(f"evaluate: unknown argument {rest[0]!r}; the run's own configuration is used")
        from cdml_jax.training import commands

        commands.evaluate(options.workdir, options.split)
        return 0
    if options.command == "prepare":
        if rest:
            raise UserError(f"prepare: unknown argument {rest[0]!r}")
        from cdml_jax.data.prepare import prepare

        prepare(
            options.source,
            out=options.out,
            images=not options.no_images,
            classes=options.classes,
            data_dir=options.data_dir,
        )
        return 0
    config, name = load_config(rest)
    workdir = options.workdir or Path("runs") / f"{name}-{options.command}"
    # Imported here: a mistake in a flag is answered before JAX is loaded.
    from cdml_jax.training import commands
    from cdml_jax.training.stop import Interrupted

    try:
        if options.command == "train":
            commands.train(config, workdir)
        else:
            commands.reproduce(config, workdir, shlex.join(["cdml", *arguments]))
    except Interrupted as stop:
        print(f"cdml: stopped at step {stop.step}; the same command continues there", file=sys.stderr)
        return 128 + stop.signal_number
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cdml",
        description="Cost-sensitive deep metric learning for fine-grained image classification.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    described = {
        "train": "train one method (--config.row) under one seed; the same command continues a stopped run",
        "reproduce": "train every method under every seed; print the table, draw the figures",
    }
    for command, text in described.items():
        sub = commands.add_parser(
            command,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_CONFIG_HELP.format(names=", ".join(shipped_configs()), base=_config_file("base")),
            usage=f"cdml {command} --config=NAME [--config.KEY=VALUE ...] [--workdir=DIR]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.add_argument(
            "--workdir",
            type=Path,
            metavar="DIR",
            help=f"where the run is kept; runs/NAME-{command} if not given",
        )
    sub = commands.add_parser(
        "evaluate",
        help="evaluate what `cdml train` left in a workdir, and draw its confusion",
        description="Evaluate what `cdml train` left in a workdir, and draw its confusion.",
        allow_abbrev=False,
    )
    sub.add_argument("--workdir", type=Path, metavar="DIR", required=True, help="of the trained run")
    sub.add_argument("--split", default="validation", choices=("validation", "test"), help="(validation)")
    _add_prepare(commands)
    cli_use.add_commands(commands)
    return parser


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    text = "check a data set, count it, say what is missing and where to get it; write it for clusters"
    sub = commands.add_parser(
        "prepare", help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    sub.add_argument(
        "source",
        metavar="SOURCE",
        help="cub200:DIR or another published set (cub200 alone tells where to get it), folder:DIR, "
        "list:DIR, array_record:DIR, tfds:NAME, synthetic_birds/CONFIG",
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="write array_record files there")
    sub.add_argument("--classes", action="store_true", help="list every class")
    sub.add_argument("--no-images", action="store_true", help="do not decode the images")
    sub.add_argument("--data-dir", default="", metavar="DIR", help="as --config.data.data_dir")


def shipped_configs() -> list[str]:
    """Names that `--config=NAME` takes, besides files."""
    from importlib import resources

    names = (path.name for path in resources.files("cdml_jax.configs").iterdir())
    return sorted(
        name[:-3] for name in names if name.endswith(".py") and name not in ("__init__.py", "base.py")
    )


def _config_file(name: str) -> Path:
    from importlib import resources

    return Path(str(resources.files("cdml_jax.configs").joinpath(f"{name}.py")))


def load_config(arguments: Sequence[str]) -> tuple[ConfigDict, str]:
    """Configuration with its overrides, and its name.

    Args:
      arguments: `--config=NAME_OR_FILE` and `--config.KEY=VALUE`, in any order.

    Raises:
      UserError: no such configuration, a key that it does not have, a value of another type.
    """
    chosen = [a.partition("=")[2] for a in arguments if a.startswith("--config=")]
    if len(chosen) != 1 or not chosen[0]:
        raise UserError(
            f"one --config=NAME is needed; NAME is a file or one of {', '.join(shipped_configs())}"
        )
    name = chosen[0]
    if name in shipped_configs():
        file = _config_file(name)
    else:
        file = Path(name).expanduser()
        if not file.is_file():
            raise UserError(f"--config: no file {name}; shipped ones are {', '.join(shipped_configs())}")
    for argument in arguments:
        if not argument.startswith(("--config=", "--config.")) or "=" not in argument:
            raise UserError(
                f"unknown argument {argument!r}; options are --workdir=DIR and --config.KEY=VALUE"
            )
    try:
        return _overridden(file, [a for a in arguments if not a.startswith("--config=")]), file.stem
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's program: whatever it raises is named
        # What the library raises has the whole traceback in its text, the reason last.
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
        raise UserError(f"--config: {file} cannot be loaded ({reason})") from error


def _overridden(file: Path, overrides: Sequence[str]) -> ConfigDict:
    from absl import flags
    from ml_collections import config_flags

    def parsed(*more: str) -> ConfigDict:
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        # The library looks for overrides in sys.argv, whatever it is given to parse.
        before, sys.argv = sys.argv, ["cdml", f"--config={file}", *more]
        # It also loads every file into one module, where another's get_config would linger.
        sys.modules.pop("config_config", None)
        try:
            values(sys.argv)
        finally:
            sys.argv = before
        return values.config

    config = parsed()
    for override in overrides:
        key, _, value = override.removeprefix("--config.").partition("=")
        kind = _type_of(config, key)
        try:
            parsed(override)
        except (flags.Error, ValueError, TypeError, KeyError, AttributeError, SyntaxError) as error:
            raise UserError(f"--config.{key}: {value!r} is no {kind.__name__}") from error
    return parsed(*overrides)


def _type_of(config: ConfigDict, key: str) -> type:
    """Type of the value at a dotted key; a misspelt key is an error that names the nearest."""
    from ml_collections import ConfigDict

    node = config
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, ConfigDict) or part not in node:
            known = list(node) if isinstance(node, ConfigDict) else []
            near = difflib.get_close_matches(part, known, n=1)
            prefix = ".".join(["--config", *parts[:depth]])
            hint = f"did you mean {prefix}.{near[0]}?" if near else f"{prefix} has {', '.join(known)}"
            raise UserError(f"--config.{key}: there is no such key; {hint}")
        node = node[part]
    if isinstance(node, ConfigDict):
        raise UserError(f"--config.{key}: is a group of keys; set one of {', '.join(node)}")
    return type(node)
