"""`cdml embed`: the embeddings of a folder's images, in one file."""

from __future__ import annotations

import argparse
import functools
import os
import shlex

from cdml_jax.cli import arguments
from cdml_jax.cli.images import Notes, images_in, network_of
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.files import absolute, has_room_for_files

_NPZ = b"PK\x03\x04"  # how a file of arrays begins
_DESCRIPTORS = ("scda", "scda+", "scda_flip+", "ddt")  # as `inference.descriptors`, which loads JAX
TEXT = "write the embeddings of the images in a folder"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "embed", TEXT)
    arguments.add_network(parser)
    parser.add_argument("folder", type=arguments.path, metavar="FOLDER", help="searched to any depth")
    parser.add_argument(
        "--out",
        type=arguments.path,
        metavar="FILE.npz",
        required=True,
        help="paths and embeddings, which cdml search takes as its gallery",
    )
    parser.add_argument("--logits", action="store_true", help="write the logits too")
    parser.add_argument(
        "--descriptor",
        choices=_DESCRIPTORS,
        help="in place of the embedding: what the last feature map holds on the object, without training; "
        "of ddt, the object is what all images of the folder have in common",
    )
    arguments.add_image_size(parser)


def run(options: argparse.Namespace) -> int:
    """Write the embeddings; returns the exit status: 0, or 2 if some image could not be read."""
    _check(options)
    trained = network_of("embed", options)
    import numpy as np  # here: a mistake in a flag is answered before they are loaded

    from cdml_jax.inference import descriptors
    from cdml_jax.inference.gallery import Gallery, save

    if options.folder.is_file():
        raise UserError(f"embed: {options.folder} is a file; give the folder that holds the images")
    if not options.folder.is_dir():
        raise UserError(f"embed: there is no folder {options.folder}")
    if not has_room_for_files(absolute(options.out).parent):
        raise UserError(f"--out: there is no folder {options.out.parent}")
    if options.out.exists() and (options.out.is_dir() or options.out.read_bytes()[:4] != _NPZ):
        raise UserError(f"--out: {options.out} is there and is not an .npz file; choose another name")
    side = options.image_size or trained.image_size
    if options.descriptor:
        descriptors.check_side(trained, side)
    files, whole = images_in(options.folder)
    descriptor, each = None, trained.each
    if options.descriptor:
        with console.working("Looking for what all images have in common"):
            descriptor = descriptors.fitted(options.descriptor, trained, files, side)
        each = functools.partial(descriptor.each, trained)
    paths, rows, notes = [], [], Notes("embed")
    with console.progress("Embedding images", len(files)) as shown:
        for file, outputs in zip(files, each(files, note=notes), strict=True):
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
    workdir = os.fspath(absolute(options.workdir)) if options.workdir else ""
    gallery = Gallery(tuple(paths), embeddings, workdir, options.best, trained.digest, descriptor)
    logits = {"logits": np.stack([row.logits for row in rows]), "class_names": np.array(trained.class_names)}
    save(gallery, options.out, logits if options.logits else None)
    console.result(
        f"{options.out}: {len(paths)} of {len(files)} images, {options.descriptor or 'embeddings'} of "
        f"{rows[0].embeddings.size} numbers"
    )
    network = " ".join(["", *map(shlex.quote, options.rest)])
    console.say(f"Next: cdml search --gallery={shlex.quote(str(options.out))}{network} IMAGE")
    return 0 if whole and len(paths) == len(files) else 2


def _check(options: argparse.Namespace) -> None:
    if options.descriptor is None and options.image_size is not None:
        raise UserError(
            "--image-size: goes with --descriptor; embeddings are made at the size of the training"
        )
    if options.descriptor is not None and options.logits:
        raise UserError("--logits: a descriptor comes without logits; leave one of --logits and --descriptor")
    arguments.check_image_size(options)
    if not options.workdir and options.logits:
        raise UserError(
            "--logits: a pretrained network has no classes of yours; give --workdir of a trained run"
        )
