"""`cdml search`: the images of a gallery that are most like a photograph."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from cdml_jax.cli import arguments
from cdml_jax.cli.images import images_of, network_of
from cdml_jax.cli.output import as_json
from cdml_jax.errors import UserError
from cdml_jax.system import console

if TYPE_CHECKING:
    from cdml_jax.inference.gallery import Gallery
    from cdml_jax.inference.trained_run import TrainedRun

TEXT = "find the images of a gallery, a file of cdml embed, that are most like a photograph"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "search", TEXT)
    parser.add_argument(
        "--gallery", type=arguments.path, metavar="FILE.npz", required=True, help="what cdml embed wrote"
    )
    parser.add_argument(
        "--workdir",
        type=arguments.path,
        metavar="DIR",
        help="of the run that embedded it, where that has moved",
    )
    parser.add_argument(
        "images", nargs="+", type=arguments.path, metavar="IMAGE", help="a file, or a folder of them"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many images of the gallery (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Print what is found; returns the exit status: 0, or 2 if some image could not be read."""
    arguments.refuse_but_configuration("search", options.rest)
    if options.top < 1:
        raise UserError(f"--top: must be at least 1, not {options.top}")
    from cdml_jax.inference import gallery as galleries  # here: a mistake in a flag needs no JAX

    gallery = galleries.read(options.gallery)
    trained = _network(gallery, options)
    given = images_of(options.images)
    failed = not given.whole
    described = gallery.descriptor
    found = described.each(trained, given.files) if described else trained.each(given.files)
    for file, outputs in zip(given.files, found, strict=True):
        if isinstance(outputs, UserError):
            failed = True
            console.warn(str(outputs))
            if options.json:
                console.result(as_json({"image": str(file), "error": str(outputs)}))
            continue
        (matches,) = gallery.search(outputs.embeddings[None], top=options.top)
        if options.json:
            plain = [match._asdict() for match in matches]
            console.result(as_json({"image": str(file), "matches": plain}))
        else:
            lines = [f"  {match.similarity:6.3f}  {console.escaped(match.path)}" for match in matches]
            console.result("\n".join([console.escaped(str(file)), *lines]))
    return 2 if failed else 0


def _network(gallery: Gallery, options: argparse.Namespace) -> TrainedRun:
    """The network that embedded a gallery.

    Raises:
      UserError: it is no longer where it was, or another one by now.
    """
    if gallery.workdir or options.workdir:
        options.workdir = options.workdir or arguments.path(gallery.workdir)
        if not options.workdir.is_dir():
            raise UserError(
                f"--gallery: the run that embedded {options.gallery} was in {options.workdir}, where it is "
                "no longer; --workdir=DIR says where it is now"
            )
        where = f"{options.workdir} now holds; write it again: cdml embed --workdir={options.workdir}"
    elif not options.rest:
        raise UserError(
            f"--gallery: {options.gallery} was embedded by a pretrained network; give the --config=NAME and "
            "--config.KEY=VALUE with which cdml embed wrote it"
        )
    else:
        where = (
            f"{' '.join(options.rest)} names; give the flags with which it was written, or write it again: "
        )
        where += f"cdml embed {shlex.join(options.rest)}"
    options.best = gallery.best
    trained = network_of("search", options)
    if trained.digest != gallery.network:
        raise UserError(
            f"--gallery: {options.gallery} was embedded by another network than {where} FOLDER "
            f"--out={options.gallery}"
        )
    return trained
