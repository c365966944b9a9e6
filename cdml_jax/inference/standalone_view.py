"""What an exported network of cdml_jax sees of a photograph, without cdml_jax.

It needs NumPy, OpenCV and, for files other than JPEG and opaque PNG, Pillow. It lies with an export, here
with mine.onnx, as mine_view.py:

    from mine_view import probabilities, view
    images = np.stack([view("photo.jpg", "mine.onnx.json")])
"""

import io
import json

import cv2
import numpy as np


def view(photograph, description):
    """The view of a photograph.

    Args:
      photograph: a file's name, or its bytes.
      description: name of the JSON file that lies with the exported network, or what it holds.

    Returns:
      uint8 (image_size, image_size, 3), RGB.
    """
    if not isinstance(description, dict):
        with open(description, encoding="utf-8") as file:
            description = json.load(file)
    size, short_side = description["view"]["image_size"], description["view"]["short_side"]
    image = pixels(photograph)
    height, width = image.shape[:2]
    side = max(1, round(min(height, width) * size / short_side))
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def pixels(photograph):
    """The photograph, turned as its EXIF data say, transparency over white: uint8 (height, width, 3), RGB."""
    if not isinstance(photograph, bytes):
        with open(photograph, "rb") as file:
            photograph = file.read()
    clear = photograph[:8] == b"\x89PNG\r\n\x1a\n" and (
        photograph[25:26] in (b"\x04", b"\x06") or b"tRNS" in photograph.partition(b"IDAT")[0]
    )
    if photograph[:3] == b"\xff\xd8\xff" or (photograph[:8] == b"\x89PNG\r\n\x1a\n" and not clear):
        image = cv2.imdecode(np.frombuffer(photograph, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is not None:
            return image
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(photograph)) as opened:
        wide = np.asarray(ImageOps.exif_transpose(opened).convert("RGBA")).astype(np.uint16)
    colours, alpha = wide[:, :, :3], wide[:, :, 3:]
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def probabilities(logits):
    """Probabilities of the classes, (images, classes), of a network's logits."""
    logits = np.asarray(logits, np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
