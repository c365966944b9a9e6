"""Augmentations beyond crops, flips and jitter: TrivialAugment by Pillow, and random erasing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_STEPS = 31  # strengths of an operation, from none to the largest

_Operation = Callable[[Image.Image, float], Image.Image]


def _affine(coefficients: Callable[[float], tuple[float, ...]]) -> _Operation:
    return lambda image, value: image.transform(
        image.size, Image.Transform.AFFINE, coefficients(value), resample=Image.Resampling.NEAREST
    )


def _enhance(kind: type) -> _Operation:
    return lambda image, value: kind(image).enhance(1 + value)


# Largest strength, whether a sign is drawn, and what is done: the "wide" space of the paper.
_OPERATIONS: dict[str, tuple[float, bool, _Operation]] = {
    "identity": (0, False, lambda image, _: image),
    "shear_x": (0.99, True, _affine(lambda v: (1, v, 0, 0, 1, 0))),
    "shear_y": (0.99, True, _affine(lambda v: (1, 0, 0, v, 1, 0))),
    "translate_x": (32, True, _affine(lambda v: (1, 0, v, 0, 1, 0))),
    "translate_y": (32, True, _affine(lambda v: (1, 0, 0, 0, 1, v))),
    "rotate": (135, True, lambda image, value: image.rotate(value)),
    "brightness": (0.99, True, _enhance(ImageEnhance.Brightness)),
    "colour": (0.99, True, _enhance(ImageEnhance.Color)),
    "contrast": (0.99, True, _enhance(ImageEnhance.Contrast)),
    "sharpness": (0.99, True, _enhance(ImageEnhance.Sharpness)),
    "posterize": (6, False, lambda image, value: ImageOps.posterize(image, 8 - round(value))),
    "solarize": (255, False, lambda image, value: ImageOps.solarize(image, 255 - round(value))),
    "autocontrast": (0, False, lambda image, _: ImageOps.autocontrast(image)),
    "equalize": (0, False, lambda image, _: ImageOps.equalize(image)),
}


def trivial_augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image after one operation of fourteen, drawn uniformly, at a strength drawn uniformly.

    Args:
      image: uint8 (height, width, 3), RGB.
      rng: source of randomness.

    Returns:
      uint8 of the same shape.

    Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV
    2021, the wide space.
    """
    which, step, sign = rng.random(3).tolist()
    largest, signed, operation = list(_OPERATIONS.values())[int(which * len(_OPERATIONS))]
    strength = largest * int(step * _STEPS) / (_STEPS - 1)
    return np.asarray(operation(Image.fromarray(image), -strength if signed and sign < 0.5 else strength))


def random_erasing(image: np.ndarray, rng: np.random.Generator, probability: float) -> np.ndarray:
    """The image with a random box replaced by noise, with a probability.

    The box has 2 to 33 % of the area and a log-uniform aspect between 0.3 and 3.3; ten are drawn and the
    first that fits is taken.

    Args:
      image: uint8 (height, width, 3).
      rng: source of randomness.
      probability: of erasing at all.

    Returns:
      uint8 of the same shape; the image itself where nothing is erased.

    Source: Zhong, Zheng, Kang, Li and Yang, "Random Erasing Data Augmentation", AAAI 2020.
    """
    if rng.random() >= probability:
        return image
    height, width = image.shape[:2]
    for u_area, u_aspect, u_top, u_left in rng.random((10, 4)).tolist():
        area = height * width * (0.02 + 0.31 * u_area)
        aspect = math.exp(math.log(0.3) + math.log(3.3 / 0.3) * u_aspect)
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = int(u_top * (height - h + 1)), int(u_left * (width - w + 1))
            erased = image.copy()
            erased[top : top + h, left : left + w] = rng.integers(0, 256, (h, w, 3), np.uint8)
            return erased
    return image
