"""Image files that a person names, one by one or by their folders, and the trained run that looks at them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cdml_jax.cli import arguments
from cdml_jax.configuration.load import load_arguments
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.buckets import in_bucket

if TYPE_CHECKING:
    from cdml_jax.inference.trained_run import TrainedRun


def trained_run(workdir: Path, *, best: bool = False) -> TrainedRun:
    """The run of a workdir, ready to be called; what it compiles is kept as its configuration says.

    Raises:
      UserError: it holds no run that can be read.
    """
    from cdml_jax.inference.trained_run import load
    from cdml_jax.system.compilation_cache import keep_compiled

    run = load(workdir, best=best)
    keep_compiled(run.config.compilation_cache)
    if run.config.data.boxes:
        console.warn(
            f"{workdir} was trained on what is inside the boxes of {run.config.data.boxes}; images that are "
            "given here are taken whole"
        )
    return run


def network_of(command: str, options: argparse.Namespace) -> TrainedRun:
    """The run of --workdir, or the pretrained network of --config=NAME and its keys.

    Raises:
      UserError: neither or both are given, or one cannot be used.
    """
    arguments.refuse_but_configuration(command, options.rest)
    if options.workdir is not None:
        arguments.refuse(command, options.rest)
        return trained_run(options.workdir, best=options.best)
    if not options.rest or options.best:
        raise UserError(
            f"{command}: give --workdir=DIR of a trained run, or --config=NAME for a pretrained network, "
            "such as --config=own_images"
        )
    settings = load_arguments(options.rest).settings
    from cdml_jax.inference.pretrained import pretrained  # here: the answers above need no JAX
    from cdml_jax.system.compilation_cache import keep_compiled

    keep_compiled(settings.compilation_cache)
    return pretrained(settings, side=getattr(options, "image_size", None))


class Given(NamedTuple):
    """Image files that a person names.

    Attributes:
      files: those of folders in the order of their paths.
      whole: whether everything in the folders could be opened.
    """

    files: list[Path]
    whole: bool


class Notes:
    """What is worth knowing about images that are used as they are, said in a line each kind at the end.

    Args:
      command: what the lines begin with.
    """

    def __init__(self, command: str):
        from cdml_jax.data.checking.problems import Problems  # here: after mistakes in flags

        self._problems = Problems(command)

    def __call__(self, trait: str, photograph: object) -> None:
        """Notes a trait of an image, "kind: detail" where there is a detail."""
        kind, _, detail = trait.partition(": ")
        self._problems.note(kind, f"{photograph} ({detail})" if detail else str(photograph))

    def say(self) -> None:
        """Prints a line for each kind, with its count and some of the images."""
        self._problems.warn()


def images_in(folder: Path) -> Given:
    """The image files below a folder, by the scan that training uses, which follows links.

    What cannot be opened and what is left out is said in a line each.

    Raises:
      UserError: there is none.
    """
    from cdml_jax.data.checking.problems import Problems
    from cdml_jax.data.images.kinds import readable_endings
    from cdml_jax.data.readers.scanning import scan

    if in_bucket(folder):
        raise UserError(
            f"{folder}: a folder of images is searched on a disk of this machine; copy it here "
            "(gcloud storage cp -r), and give its path"
        )
    problems = Problems(str(folder))
    found = sorted(Path(folder, file) for file in scan(Path(folder), problems).all_images())
    for line in problems.problems():
        console.warn(f"{folder}: {line}")
    problems.warn()
    if not found:
        raise UserError(f"{folder}: no image in it ({', '.join(sorted(readable_endings()))})")
    return Given(found, not problems.has())


def images_of(paths: Sequence[Path]) -> Given:
    """The image files that are given one by one or by their folders.

    Raises:
      UserError: there is none in a folder.
    """
    each = [images_in(path) if path.is_dir() else Given([path], True) for path in paths]
    return Given([file for given in each for file in given.files], all(given.whole for given in each))
