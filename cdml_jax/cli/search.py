"""`cdml search`: the images of a gallery that are most like a photograph."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments
from cdml_jax.cli.images import images_of, trained_run
from cdml_jax.cli.output import as_json
from cdml_jax.errors import UserError
from cdml_jax.system import console

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
    arguments.refuse("search", options.rest)
    if options.top < 1:
        raise UserError(f"--top: must be at least 1, not {options.top}")
    from cdml_jax.inference import gallery as galleries  # here: a mistake in a flag needs no JAX

    gallery = galleries.read(options.gallery)
    workdir = options.workdir or arguments.path(gallery.workdir)
    if not workdir.is_dir():
        raise UserError(
            f"--gallery: the run that embedded {options.gallery} was in {workdir}, where it is no longer; "
            "--workdir=DIR says where it is now"
        )
    trained = trained_run(workdir, best=gallery.best)
    if trained.digest != gallery.network:
        raise UserError(
            f"--gallery: {options.gallery} was embedded by another network than {workdir} now holds; write "
            f"it again: cdml embed --workdir={workdir} FOLDER --out={options.gallery}"
        )
    given = images_of(options.images)
    failed = not given.whole
    for file, outputs in zip(given.files, trained.each(given.files), strict=True):
        if isinstance(outputs, UserError):
            failed = True
            console.warn(str(outputs))
            if options.json:
                console.result(as_json({"image": str(file), "error": str(outputs)}))
            continue
        (matches,) = gallery.search(outputs.embeddings[None], top=options.top)
        if options.json:
            found = [match._asdict() for match in matches]
            console.result(as_json({"image": str(file), "matches": found}))
        else:
            lines = [f"  {match.similarity:6.3f}  {console.escaped(match.path)}" for match in matches]
            console.result("\n".join([console.escaped(str(file)), *lines]))
    return 2 if failed else 0
