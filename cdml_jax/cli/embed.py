"""`cdml embed`: the embeddings of a folder's images, in one file."""

from __future__ import annotations

import argparse
import os
import shlex

from cdml_jax.cli import arguments
from cdml_jax.cli.images import Notes, images_in, trained_run
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.files import absolute

_NPZ = b"PK\x03\x04"  # how a file of arrays begins
TEXT = "write the embeddings of the images in a folder"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "embed", TEXT)
    arguments.add_workdir(parser)
    parser.add_argument("folder", type=arguments.path, metavar="FOLDER", help="searched to any depth")
    parser.add_argument(
        "--out",
        type=arguments.path,
        metavar="FILE.npz",
        required=True,
        help="paths and embeddings, which cdml search takes as its gallery",
    )
    parser.add_argument("--logits", action="store_true", help="write the logits too")


def run(options: argparse.Namespace) -> int:
    """Write the embeddings; returns the exit status: 0, or 2 if some image could not be read."""
    arguments.refuse("embed", options.rest)
    trained = trained_run(options.workdir, best=options.best)
    import numpy as np  # here: a mistake in a flag is answered before they are loaded

    from cdml_jax.inference.gallery import Gallery, save

    if options.folder.is_file():
        raise UserError(f"embed: {options.folder} is a file; give the folder that holds the images")
    if not options.folder.is_dir():
        raise UserError(f"embed: there is no folder {options.folder}")
    if not absolute(options.out).parent.is_dir():
        raise UserError(f"--out: there is no folder {options.out.parent}")
    if options.out.exists() and (options.out.is_dir() or options.out.read_bytes()[:4] != _NPZ):
        raise UserError(f"--out: {options.out} is there and no .npz file; choose another name")
    files, whole = images_in(options.folder)
    paths, rows, notes = [], [], Notes("embed")
    with console.progress("Embedding images", len(files)) as shown:
        for file, outputs in zip(files, trained.each(files, note=notes), strict=True):
            shown.advance()
            if isinstance(outputs, UserError):
                shown.warn(f"{outputs}; left out")
                continue
            paths.append(file.relative_to(options.folder).as_posix())
            rows.append(outputs if options.logits else outputs._replace(logits=outputs.logits[:0]))
    notes.say()
    if not paths:
        raise UserError(f"embed: none of the {len(files)} images in {options.folder} can be read")
    embeddings = np.stack([row.embeddings for row in rows])
    workdir = os.fspath(absolute(options.workdir))
    gallery = Gallery(tuple(paths), embeddings, workdir, options.best, trained.digest)
    logits = {"logits": np.stack([row.logits for row in rows]), "class_names": np.array(trained.class_names)}
    save(gallery, options.out, logits if options.logits else None)
    console.result(
        f"{options.out}: {len(paths)} of {len(files)} images, embeddings of {rows[0].embeddings.size} numbers"
    )
    console.say(f"Next: cdml search --gallery={shlex.quote(str(options.out))} IMAGE")
    return 0 if whole and len(paths) == len(files) else 2
