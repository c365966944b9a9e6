"""Encoded bytes to 8-bit RGB, whatever the file holds, or one plain sentence on why not."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np

from cdml_jax.errors import UserError

MAX_PIXELS = 178_956_970
"""The largest width x height that is decoded: a small file can claim any size (a decompression bomb)."""

EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
"""The file name endings, in lower case, that a folder's images may have."""

# Named, because Pillow's other readers start programs (EPS) or hold no photographs.
_PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def decode(data: bytes) -> np.ndarray:
    """Decodes one image file to RGB.

    JPEG and PNG go through OpenCV, all else through Pillow. EXIF orientation is applied. Greyscale, palette,
    CMYK and 16-bit images become 8-bit RGB; an alpha channel is dropped; an animation gives its first frame.

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
    if not data:
        raise UserError("zero bytes")
    if data.startswith(_JPEG):
        width, height, start = _jpeg_header(data)
        # Older OpenCV fills what is missing with grey and says nothing.
        complete = start > 0 and data.rfind(b"\xff\xd9", start) >= 0  # near the end, where it is
    elif data.startswith(_PNG):
        width, height = struct.unpack(">II", data[16:24]) if len(data) >= 24 else (0, 0)
        complete = data.find(b"IEND", len(data) - 1024 if len(data) > 1024 else 0) >= 0
    else:
        width, height, complete = 0, 0, False
    _refuse_bombs(width, height)
    if complete:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:
            image = None
        if image is not None:
            return image
    return _decode_with_pillow(data)


def _refuse_bombs(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Width, height and where the compressed data begin; zeros for what is not there."""
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
        at += 2 + length
    return width, height, 0


def _decode_with_pillow(data: bytes) -> np.ndarray:
    # Imported here: only the rarer formats and damaged files come this way.
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
            _refuse_bombs(*image.size)
            image.load()
            if image.mode in ("I", "F"):
                raise UserError("32-bit or floating-point pixels: save it with 8 bits a channel")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                grey = (np.asarray(upright) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if upright.mode == "P" and "transparency" in upright.info:
                upright = upright.convert("RGBA")
            return np.array(upright.convert("RGB"))
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError("not an image that can be read") from None
    except Image.DecompressionBombError:
        raise UserError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # Pillow's readers raise whatever the damage leads to, SyntaxError included
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged ({error})"
        raise UserError(reason) from None
