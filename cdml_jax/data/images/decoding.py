"""Encoded bytes to 8-bit RGB, whatever the file holds, or one plain sentence on why not."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import cv2
import numpy as np

from cdml_jax.data.images.kinds import reads_avif, reason_of, refuse_unread
from cdml_jax.errors import UserError

MAX_PIXELS = 178_956_970
"""The largest width x height that is decoded: a small file can claim any size (a decompression bomb)."""

TRANSPARENT = "image with transparency, composed over white"
SEVERAL = "file with several frames or pages; the first is used"
DARK = "16-bit image whose values nearly all lie below {:d}, which comes out dark; scale them to 16 bits"

# Named, because Pillow's other readers start programs (EPS) or hold no photographs.
_PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_SHORT = 3  # the type that EXIF demands of an orientation


def decode(data: bytes) -> np.ndarray:
    """Decodes one image file to RGB.

    JPEG and PNG go through OpenCV, all else through Pillow. EXIF orientation is applied. Greyscale, palette,
    CMYK and 16-bit images become 8-bit RGB; transparency is composed over white; an animation gives its first
    frame.

    Args:
      data: the file's bytes.

    Returns:
      A uint8 array (height, width, 3), channels in the order red, green, blue.

    Raises:
      UserError: the bytes are empty, truncated, no image, larger than `MAX_PIXELS`, or of a kind (32-bit or
        floating-point pixels) whose conversion to 8 bits would be a guess.

    >>> decode(b"GIF89a, or so it says")
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: not an image that can be read
    """
    return inspect(data)[0]


def inspect(data: bytes) -> tuple[np.ndarray, list[str]]:
    """`decode`, and what is worth knowing about the image.

    Args:
      data: the file's bytes.

    Returns:
      The image, and any of `TRANSPARENT`, `DARK` and `SEVERAL`.

    Raises:
      UserError: as by `decode`.
    """
    if not data:
        raise UserError("zero bytes")
    deep = False
    if is_jpeg(data):
        width, height, start = _jpeg_header(data)
        # Older OpenCV fills what is missing with grey and says nothing.
        complete = start > 0 and data.rfind(b"\xff\xd9", start) >= 0  # near the end, where it is
    elif data.startswith(_PNG):
        width, height = struct.unpack(">II", data[16:24]) if len(data) >= 24 else (0, 0)
        complete = data.find(b"IEND", len(data) - 1024 if len(data) > 1024 else 0) >= 0
        at = data.find(b"eXIf", 33)
        complete &= not (_png_is_transparent(data) or (at > 0 and _is_oddly_turned(data[at + 4 : at + 4096])))
        deep = data[24:25] == b"\x10"
    else:
        width, height, complete = 0, 0, False
    _refuse_bombs(width, height)
    if complete:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:
            image = None
        if image is not None:
            animated = [SEVERAL] if data.startswith(_PNG) and _png_is_animated(data) else []
            return image, (_darkness(image) if deep else []) + animated
    return _decode_with_pillow(data)


def is_jpeg(data: bytes) -> bool:
    """Whether a file's bytes begin as a JPEG file's."""
    return data.startswith(_JPEG)


def _refuse_bombs(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Width, height and where the compressed data begin; zeros for what is not there.

    A file whose orientation OpenCV would not see counts as one without data.
    """
    width = height = 0
    at, end = 2, len(data)
    while at + 4 <= end:
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # padding between segments
            at += 1
            continue
        if marker == 0xDA:
            return width, height, at
        length = (data[at + 2] << 8) | data[at + 3]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 <= end:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
        exif = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and exif.startswith(b"Exif\0\0") and _is_oddly_turned(exif[6:]):
            break
        at += 2 + length
    return width, height, 0


def _is_oddly_turned(tiff: bytes) -> bool:
    """Whether the first directory of EXIF data has an orientation that is not a SHORT."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order or len(tiff) < 8:
        return False
    (first,) = struct.unpack(order + "I", tiff[4:8])
    if first + 2 > len(tiff):
        return False
    (count,) = struct.unpack(order + "H", tiff[first : first + 2])
    for at in range(first + 2, min(first + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind = struct.unpack(order + "HH", tiff[at : at + 4])
        if tag == 0x0112:
            return kind != _SHORT
    return False


def _png_is_transparent(data: bytes) -> bool:
    """Whether a PNG has an alpha channel or names transparent colours, before its pixels."""
    return data[25:26] in (b"\x04", b"\x06") or data.find(b"tRNS", 33, max(data.find(b"IDAT"), 33)) >= 0


def _png_is_animated(data: bytes) -> bool:
    return data.find(b"acTL", 33, max(data.find(b"IDAT"), 33)) >= 0


def _darkness(image: np.ndarray) -> list[str]:
    """What is to be said of a 16-bit image of which the high bytes are given."""
    few = image.size // 1000  # a scale bar or a broken pixel may reach any value
    limit = next((limit for limit in (16, 64) if np.count_nonzero(image >= limit) <= few), 0)
    return [DARK.format(256 * limit)] if limit else []


def _decode_with_pillow(data: bytes) -> tuple[np.ndarray, list[str]]:
    # Imported here: only the rarer formats and damaged files come this way.
    from PIL import Image, ImageOps, UnidentifiedImageError

    formats = (*_PILLOW_FORMATS, *(("AVIF",) if reads_avif() else ()))
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _refuse_bombs(*image.size)
            image.load()
            deep = _is_deep(image, data)
            if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
                raise UserError("32-bit or floating-point pixels: save it with 8 bits a channel")
            pixels, traits = _pixels(ImageOps.exif_transpose(image), *_scale(image))
            traits += _darkness(pixels) if deep else []
            return pixels, traits + ([SEVERAL] if _has_more_frames(image, data) else [])
    except UserError:
        raise
    except UnidentifiedImageError:
        refuse_unread(data)
        raise UserError(f"not an image that can be read{reason_of(data)}") from None
    except Image.DecompressionBombError:
        raise UserError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # Pillow's readers raise whatever the damage leads to, SyntaxError included
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged ({error})"
        raise UserError(reason) from None


def _has_more_frames(image: Any, data: bytes) -> bool:
    """Whether a Pillow image has a second frame or page."""
    if image.format != "GIF":
        return bool(getattr(image, "is_animated", False))
    from PIL import Image

    # A GIF has to be searched, which another object does: a damaged second frame is nobody's loss.
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=("GIF",)) as again:
        return bool(getattr(again, "is_animated", False))
    return False


def _is_deep(image: Any, data: bytes) -> bool:
    """Whether a Pillow image was stored with 16 bits a channel."""
    if image.format == "TIFF":
        return 16 in tuple(image.tag_v2.get(258, ()))  # BitsPerSample
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    return image.mode == "I" or image.mode.startswith("I;16")


def _scale(image: Any) -> tuple[int, bool]:
    """How many bits a channel of an image of more than 8 bits has, and whether 0 is white in it."""
    if image.format != "TIFF":
        return 16, False  # Pillow scales a PGM's values to 16 bits
    bits = max(image.tag_v2.get(258, (16,)))  # BitsPerSample
    return min(max(bits, 8), 16), image.tag_v2.get(262) == 0  # PhotometricInterpretation


def _pixels(image: Any, bits: int, white_is_zero: bool) -> tuple[np.ndarray, list[str]]:
    """A Pillow image as 8-bit RGB, and `TRANSPARENT` where it is.

    Args:
      image: the image.
      bits: of a grey image of more than 8 bits.
      white_is_zero: of such a one, which Pillow leaves as it is stored.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        grey = 255 - grey if white_is_zero else grey
        return np.repeat(grey[:, :, None], 3, axis=2), []
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return np.array(image.convert("RGB")), []
    wide = np.asarray(image.convert("RGBA")).astype(np.uint16)
    colours, alpha = wide[:, :, :3], wide[:, :, 3:]
    if (alpha == 255).all():
        return colours.astype(np.uint8), []
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8), [TRANSPARENT]
