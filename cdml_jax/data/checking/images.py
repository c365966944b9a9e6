"""Every image decoded once: what is wrong with it, what is worth knowing, and digests of its content."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from cdml_jax.data.dataset import Source
from cdml_jax.data.images.decoding import decode, inspect, is_jpeg
from cdml_jax.errors import UserError
from cdml_jax.system import console

DAMAGED = "image with damaged data, used as it is"

_SIDE = 16  # of the small grey picture by which nearly equal images are found
_TOGETHER = 64  # images between two looks at what the JPEG library has printed
_HARMLESS = ("unknown JFIF", "Unknown Adobe")
_WARNINGS = (
    "Corrupt JPEG data",
    "Premature end of JPEG",
    "Inconsistent progression",
    "Invalid SOS",
    *_HARMLESS,
)
# Of libpng and libtiff, where the image cannot be decoded, which is said with its name.
_REFUSED = (
    "libpng error",
    "LZWDecode:",
    "ZIPDecode:",
    "PackBitsDecode:",
    "TIFFReadEncoded",
    "TIFFFillStrip:",
)


class Checked(NamedTuple):
    """What is known of one image.

    Attributes:
      digest: of the content, 24 hexadecimal digits; "" where it cannot be read.
      small: the grey picture of `_SIDE` x `_SIDE` pixels, in base 64; "" where it was not made.
      traits: what is worth knowing, each a kind of note, "kind: detail" where there is a detail.
      decoded: whether the image is known to be good.
      fault: why it cannot be read.
    """

    digest: str = ""
    small: str = ""
    traits: tuple[str, ...] = ()
    decoded: bool = False
    fault: str = ""


def digest_of(image: bytes | np.ndarray) -> str:
    """Digest of an image as a source gives it."""
    data = image if isinstance(image, bytes) else np.ascontiguousarray(image)
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def check_images(images: Sequence[tuple[Source, int]], *, small: bool) -> Iterator[Checked]:
    """Decodes images by several threads.

    Args:
      images: source and index of each.
      small: whether to make the small pictures.
    """

    def check(at: tuple[Source, int]) -> Checked:
        return check_image(*at, small=small)

    for part in _parts(images, "Checking images"):
        with part.errors as printed:
            found = list(part.pool.map(check, part.images))
        yield from _with_damage(part.images, found) if says_damage(printed) else found


def digest_images(images: Sequence[tuple[Source, int]]) -> Iterator[Checked]:
    """Reads images, by several threads, without decoding them."""

    def read(at: tuple[Source, int]) -> Checked:
        source, index = at
        try:
            return Checked(digest_of(source.image(index)))
        except Exception:  # whoever opens it next says why
            return Checked()

    for part in _parts(images, "Looking for equal images"):
        yield from part.pool.map(read, part.images)


class _Part(NamedTuple):
    images: Sequence[tuple[Source, int]]
    pool: ThreadPoolExecutor
    errors: contextlib.AbstractContextManager[list[str]]


def _parts(images: Sequence[tuple[Source, int]], what: str) -> Iterator[_Part]:
    if not images:
        return
    cv2.setNumThreads(1)  # the threads here are the parallelism
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        console.progress(what, len(images)) as shown,
    ):
        for start in range(0, len(images), _TOGETHER):
            part = images[start : start + _TOGETHER]
            yield _Part(part, pool, captured_errors())
            shown.advance(len(part))


def check_image(source: Source, index: int, *, small: bool = True) -> Checked:
    """What is to be known of one image, or what is wrong with it."""
    traits: list[str] = []
    try:
        image = source.image(index)
        if isinstance(image, bytes):
            pixels, traits = inspect(image)
        elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            return Checked(fault=f"{image.dtype} {image.shape}, not uint8 (height, width, 3)")
        else:
            pixels = image
    except Exception as error:  # whatever is wrong with one image must not hide what is wrong with the next
        return Checked(fault=str(error))
    return Checked(digest_of(image), small_picture(pixels) if small else "", tuple(traits), decoded=True)


def small_picture(image: np.ndarray) -> str:
    """Base 64 of an RGB image as `_SIDE` x `_SIDE` grey pixels."""
    grey = cv2.cvtColor(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return base64.b64encode(grey.tobytes()).decode()


def pixels_of(small: Iterable[str]) -> np.ndarray:
    """(n, _SIDE²) uint8 of `small_picture`s."""
    data = b"".join(base64.b64decode(picture) for picture in small)
    return np.frombuffer(data, np.uint8).reshape(-1, _SIDE * _SIDE)


def _with_damage(images: Sequence[tuple[Source, int]], found: list[Checked]) -> Iterator[Checked]:
    """`found`, with the damage that the JPEG library prints of each, one at a time: it names none."""
    for (source, index), checked in zip(images, found, strict=True):
        damage = ""
        if checked.decoded:
            image = source.image(index)
            if isinstance(image, bytes):
                damage = damage_of(image)
        more = (f"{DAMAGED}: {damage}",) if damage else ()
        yield checked._replace(traits=(*checked.traits, *more))


def damage_of(image: bytes) -> str:
    """What the JPEG library says of one file's data, in a few words; "" for nothing, and for other kinds.

    Nothing else may be decoded meanwhile.
    """
    if not is_jpeg(image):
        return ""
    with captured_errors() as printed, contextlib.suppress(UserError):
        decode(image)
    return says_damage(printed)


def says_damage(printed: list[str]) -> str:
    """The first warning of the JPEG library that speaks of damage, in a few words."""
    for line in printed:
        if not any(harmless in line for harmless in _HARMLESS):
            return line.partition("data: ")[2] or line
    return ""


@contextlib.contextmanager
def captured_errors() -> Iterator[list[str]]:
    """Collects what the JPEG library prints of damaged files, which it does on standard error alone.

    Nothing else may print meanwhile; what does comes out at the end, but for what image libraries print of
    files that are refused by name, and Pillow's warnings, which name no file. Where standard error is closed,
    nothing is collected.
    """
    damage: list[str] = []
    try:
        saved = os.dup(2)
    except OSError:
        yield damage
        return
    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            os.dup2(file.fileno(), 2)
            yield damage
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            others: list[str] = []
            for line in file.read().decode(errors="replace").splitlines():
                if not line.startswith(_REFUSED):
                    (damage if line.startswith(("Warning: ", *_WARNINGS)) else others).append(line)
            if others:
                os.write(2, ("\n".join(others) + "\n").encode())
