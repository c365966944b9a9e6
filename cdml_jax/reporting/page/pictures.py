"""Small pictures of images, encoded again without what cameras write into files; images that are equal."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from cdml_jax.data.checking.copies import MOST_COMPARED, Image, copies_among
from cdml_jax.data.checking.images import captured_errors, digest_of, small_picture
from cdml_jax.data.images.decoding import decode, is_jpeg
from cdml_jax.errors import UserError
from cdml_jax.reporting.page.shown import Open, Picture
from cdml_jax.system import console

SIDE = 96
"""Short side of a small picture in pixels; images that are smaller stay as they are."""
_LONGEST = 2 * SIDE
_QUALITY = 55
_EFFORT = 2  # of WebP's 0 to 6: with 4, its usual one, a picture takes twice as long and is 4 % smaller
_TOGETHER = 256  # images between two looks at what the JPEG library has printed
_LARGE = 200_000  # bytes from which a JPEG file is decoded at a fraction of its size


class Small(NamedTuple):
    """Small pictures of a page's images.

    Attributes:
      files: WebP, one an image; b"" where it cannot be read.
      copies: groups of places of images that are nearly equal.
      unread: how many cannot be read, and why the first cannot.
    """

    files: list[bytes]
    copies: list[list[int]]
    unread: tuple[int, str]


def small_pictures(pictures: Sequence[Picture], open_image: Open) -> Small:
    """Small pictures of images, by several threads, and which of the images are nearly equal.

    Args:
      pictures: the images.
      open_image: gives one by its name.
    """
    cv2.setNumThreads(1)  # the threads here are the parallelism
    files, known, faults = [], [], []

    def read(picture: Picture) -> tuple[bytes, str, str, str]:
        try:
            image = open_image(picture.name)
            pixels = decoded(image)
            return encoded(pixels), digest_of(image), small_picture(pixels), ""
        except Exception as error:  # one image that cannot be shown is no reason to show none
            return b"", "", "", str(error) or type(error).__name__

    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        console.progress("Making small pictures", len(pictures)) as shown,
    ):
        for start in range(0, len(pictures), _TOGETHER):
            with captured_errors():  # nothing may print inside
                part = list(pool.map(read, pictures[start : start + _TOGETHER]))
            for file, digest, grey, fault in part:
                files.append(file)
                known.append((digest, grey))
                faults += [fault] if fault else []
            shown.advance(len(part))
    return Small(files, _copies(pictures, known), (len(faults), faults[0] if faults else ""))


def _copies(pictures: Sequence[Picture], known: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Places of images that are equal or nearly so; none is sought among too many."""
    if len(pictures) > MOST_COMPARED:
        return []
    images = [Image(p.split, str(k), "", digest) for k, (p, (digest, _)) in enumerate(zip(pictures, known))]
    return [
        [int(image.name) for image in group]
        for group in copies_among(images, {digest: grey for digest, grey in known if digest})
    ]


def decoded(image: bytes | np.ndarray) -> np.ndarray:
    """RGB pixels of an image; of a large JPEG file at a fraction of its size, which is faster.

    Raises:
      UserError: it cannot be read.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(f"{image.dtype} {image.shape}, not uint8 (height, width, 3)")
        return image
    if is_jpeg(image) and len(image) > _LARGE:
        with contextlib.suppress(Exception), Pillow.open(io.BytesIO(image), formats=("JPEG",)) as file:
            file.draft("RGB", (_LONGEST, _LONGEST))
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    return decode(image)


def encoded(pixels: np.ndarray) -> bytes:
    """A small picture of RGB pixels as WebP, with nothing else in it."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / min(height, width), _LONGEST / max(height, width))
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()
