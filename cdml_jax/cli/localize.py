"""`cdml localize`: where the object is in each image of a folder, without boxes to learn from."""

from __future__ import annotations

import argparse
import itertools
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cdml_jax.cli import arguments
from cdml_jax.cli.images import Notes, images_in, network_of
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.files import absolute, has_room_for_files

if TYPE_CHECKING:
    from pathlib import Path

    from cdml_jax.data.readers.boxes import Box

TEXT = "find the object in each image of a folder by a network's last feature map; write boxes and a picture"
_SETS = ("folders", "all")
_FEW = 5  # images below which a set says little of what its images have in common
_DRAWN = 24  # images of the picture


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "localize", TEXT)
    arguments.add_network(parser)
    parser.add_argument("folder", type=arguments.path, metavar="FOLDER", help="searched to any depth")
    parser.add_argument(
        "--out",
        type=arguments.path,
        metavar="FILE.csv",
        required=True,
        help="the boxes, in pixels; --config.data.boxes=FILE.csv trains on what is inside them",
    )
    parser.add_argument(
        "--picture", type=arguments.path, metavar="FILE.png", help=f"up to {_DRAWN} images with boxes"
    )
    parser.add_argument(
        "--method",
        choices=("ddt", "scda"),
        default="ddt",
        help="ddt: what the images of a set have in common; scda: what is strong in each image (ddt)",
    )
    parser.add_argument(
        "--sets",
        choices=_SETS,
        default=_SETS[0],
        help="for ddt: which images show one kind of thing, those of each folder or all (folders)",
    )
    arguments.add_image_size(parser)


def run(options: argparse.Namespace) -> int:
    """Write the boxes; returns the exit status: 0, or 2 if some image could not be read."""
    arguments.check_image_size(options)
    if options.method == "scda" and options.sets != _SETS[0]:
        raise UserError("--sets: scda looks at each image by itself; leave --sets to --method=ddt")
    trained = network_of("localize", options)
    from cdml_jax.data.readers import (
        boxes as table,
    )  # here: a mistake in a flag is answered before JAX is loaded
    from cdml_jax.inference.descriptors import check_side
    from cdml_jax.inference.localization import Localizer

    _check_paths(options)
    side = options.image_size or trained.image_size
    check_side(trained, side)
    files, whole = images_in(options.folder)
    sets = _sets(files) if options.sets == "folders" and options.method == "ddt" else [files]
    _warn_of_few(sets, options)
    localizer, notes = Localizer(trained, options.method, side), Notes("localize")
    found: list[tuple[Path, Box]] = []
    with console.progress("Localizing", len(files)) as shown:
        for images in sets:
            for file, box in zip(images, _boxes(localizer, images, notes), strict=True):
                shown.advance()
                if isinstance(box, UserError):
                    shown.warn(f"{box}; left out")
                else:
                    found.append((file, box))
    notes.say()
    if not found:
        raise UserError(f"localize: none of the {len(files)} images in {options.folder} can be read")
    table.write_boxes(options.out, ((f.relative_to(options.folder).as_posix(), box) for f, box in found))
    if options.picture:
        _draw(found, options)
    nothing = sum(not box.found for _, box in found)
    said = f"; nothing found in {nothing}, whose box is the whole image" if nothing else ""
    console.result(f"{options.out}: boxes of {len(found)} of {len(files)} images{said}")
    out = shlex.quote(f"--config.data.boxes={options.out}")
    console.say(f"Next: cdml train --config=own_images --config.source=folder:{options.folder} {out}")
    return 0 if whole and len(found) == len(files) else 2


def _check_paths(options: argparse.Namespace) -> None:
    if not options.folder.is_dir():
        raise UserError(f"localize: there is no folder {options.folder}")
    for flag, path, ending in (("--out", options.out, ".csv"), ("--picture", options.picture, ".png")):
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise UserError(f"{flag}: {path} does not end in {ending}")
        if not has_room_for_files(absolute(path).parent):
            raise UserError(f"{flag}: there is no folder {path.parent}")
        if path.is_dir():
            raise UserError(f"{flag}: {path} is a folder; choose another name")
    from cdml_jax.reporting.drawing import why_not

    if options.picture and (reason := why_not()):
        raise UserError(f"--picture: {reason}")


def _sets(files: list[Path]) -> list[list[Path]]:
    """The images of each folder; files come in the order of their paths."""
    by_folder = sorted(files, key=lambda file: (file.parent, file))
    return [list(images) for _, images in itertools.groupby(by_folder, key=lambda file: file.parent)]


def _warn_of_few(sets: list[list[Path]], options: argparse.Namespace) -> None:
    few = [images for images in sets if len(images) < _FEW]
    if options.method == "ddt" and few:
        console.warn(
            f"localize: {len(few)} of {len(sets)} sets have fewer than {_FEW} images, such as "
            f"{few[0][0].parent}: ddt finds what the images of a set have in common; --sets=all makes one "
            "set, --method=scda needs none"
        )


def _boxes(localizer, images: list[Path], notes: Notes) -> Iterator[Box | UserError]:
    """The boxes of a set; where none of its images can be read, that for each."""
    try:
        yield from localizer.boxes(images, note=notes)
    except UserError as error:
        for file in images:
            yield UserError(f"{file}: {error}")


def _draw(found: list[tuple[Path, Box]], options: argparse.Namespace) -> None:
    """Some images, evenly spread, with their boxes."""
    from etils.epath import Path as AnyPath

    from cdml_jax.data.images.decoding import decode
    from cdml_jax.reporting.drawing import attempt
    from cdml_jax.reporting.localization import Shown, draw_boxes

    number = min(_DRAWN, len(found))
    places = [round(k * (len(found) - 1) / max(number - 1, 1)) for k in range(number)]
    shown = [
        Shown(file.stem, decode(file.read_bytes()), box.pixels if box.found else None)
        for file, box in (found[place] for place in places)
    ]
    attempt(AnyPath(options.picture), lambda path: draw_boxes(shown, path))
