"""Photographs as a person has them, of any size and number, through a network in batches of few sizes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np
from etils.epath import Path
from jax.sharding import Mesh

from cdml_jax.data.checking.images import DAMAGED, captured_errors, damage_of, says_damage
from cdml_jax.data.images.decoding import inspect
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError

Photograph = str | os.PathLike | bytes | np.ndarray
Note = Callable[[str, Photograph], None]
View = Callable[[np.ndarray], np.ndarray]
Rows = tuple[np.ndarray, ...]


class Computed(NamedTuple):
    """What was computed of one photograph.

    Attributes:
      outputs: its row of each array.
      shape: height and width of the photograph as it stands upright, in pixels.
    """

    outputs: Rows
    shape: tuple[int, int]


class Seen(NamedTuple):
    """What a network sees of a photograph.

    Attributes:
      view: uint8 (side, side, 3).
      traits: what is worth knowing about the photograph.
      shape: its height and width, upright, in pixels.
    """

    view: np.ndarray
    traits: list[str]
    shape: tuple[int, int]


BATCH = 64  # the largest batch of one device; smaller ones are powers of two


def seen(photograph: Photograph, view: View) -> Seen:
    """What a network sees of a photograph.

    Args:
      photograph: a file, a file's bytes, or a uint8 array (height, width, 3), RGB, of any size.
      view: what it sees of a decoded image.

    Raises:
      UserError: it cannot be read; the message begins with the file's name.
    """
    if isinstance(photograph, (bytes, np.ndarray)):
        image, traits = inspect(photograph) if isinstance(photograph, bytes) else (photograph, [])
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise UserError(f"a photograph is uint8 (height, width, 3), not {image.dtype} {image.shape}")
        return Seen(view(image), traits, (image.shape[0], image.shape[1]))
    try:
        return seen(Path(photograph).read_bytes(), view)
    except OSError as error:
        raise UserError(f"{photograph}: cannot be opened ({error.strerror or error})") from error
    except UserError as error:
        raise UserError(f"{photograph}: {error}") from error


def in_parts(images: np.ndarray, mesh: Mesh, compute: Callable[[Any], Iterable[Any]]) -> Rows:
    """What a compiled function gives for a batch of any size, on the host.

    It is called on parts of at most `BATCH` rows a device, filled up to a power of two: few sizes are
    compiled. Everything is read once all are under way.
    """
    parts = [(number, compute(placed["image"])) for number, placed in placed_parts(images, mesh)]
    arrays = [[np.asarray(output)[:number] for output in outputs] for number, outputs in parts]
    return tuple(np.concatenate(output) for output in zip(*arrays))


def placed_parts(images: np.ndarray, mesh: Mesh) -> Iterator[tuple[int, dict[str, jax.Array]]]:
    """Parts of a batch on the devices: the number of images, "image" with padded rows, "mask" without."""
    devices = mesh.size
    for start in range(0, max(1, len(images)), BATCH * devices):
        part = images[start : start + BATCH * devices]
        rows = devices * (1 << max(0, -(-len(part) // devices) - 1).bit_length())
        padded = np.pad(part, ((0, rows - len(part)), (0, 0), (0, 0), (0, 0)))
        yield len(part), mesh_lib.put_batch(mesh, {"image": padded, "mask": np.arange(rows) < len(part)})


def each(
    photographs: Iterable[Photograph],
    view: View,
    compute: Callable[[np.ndarray], Rows],
    *,
    size: int,
    note: Note | None = None,
) -> Iterator[Computed | UserError]:
    """What is computed of each photograph in turn, or why it cannot be read.

    Photographs are decoded by threads, a batch ahead, and never all held.

    Args:
      photographs: as for `seen`.
      view: what the network sees of a decoded image.
      compute: arrays of as many rows as it is given images.
      size: of a batch.
      note: takes what is worth knowing about an image, a kind of note as `cdml prepare` prints it, and the
        photograph. Where it is given, standard error is held back while images are decoded: the JPEG library
        prints there of damage, and names no file.
    """

    def read(photograph: Photograph) -> Seen | UserError:
        try:
            return seen(photograph, view)
        except UserError as error:
            return error

    remaining = iter(photographs)
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:

        def following() -> list[tuple[Photograph, Future]]:
            return [(photograph, pool.submit(read, photograph)) for photograph in islice(remaining, size)]

        with _held_back(note) as printed:
            ahead = following()
            wait([future for _, future in ahead])
        while ahead:
            results = [(photograph, future.result()) for photograph, future in ahead]
            if note is not None:
                _note(note, results, damage=bool(says_damage(printed)))
            with _held_back(note) as printed:
                ahead = following()
                good = [found.view for _, found in results if not isinstance(found, UserError)]
                outputs = zip(*compute(np.stack(good))) if good else iter(())
                if note is not None:
                    wait([future for _, future in ahead])  # so that what is printed is of this batch
            for _, found in results:
                yield found if isinstance(found, UserError) else Computed(next(outputs), found.shape)


def _held_back(note: Note | None) -> contextlib.AbstractContextManager[list[str]]:
    return contextlib.nullcontext([]) if note is None else captured_errors()


def _note(note: Note, results: Iterable[tuple[Photograph, Seen | UserError]], *, damage: bool) -> None:
    """Passes on what is known of a batch; with `damage`, looks for the JPEG files that have it."""
    for photograph, found in results:
        if isinstance(found, UserError):
            continue
        for trait in found.traits:
            note(trait, photograph)
        if not damage or isinstance(photograph, np.ndarray):
            continue
        data = photograph if isinstance(photograph, bytes) else Path(photograph).read_bytes()
        if said := damage_of(data):
            note(f"{DAMAGED}: {said}", photograph)
