"""Boxes of masks, and how well they agree with known ones: intersection over union, CorLoc.

A box is (left, top, right, bottom), right and bottom excluded: in pixels, or in shares of the image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Bool, Float

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The box of a whole image, in shares of it."""


def bounding_boxes(
    masks: Bool[ArrayLike, "images height width"],
) -> tuple[Float[np.ndarray, "images four"], Bool[np.ndarray, " images"]]:
    """The box around each mask in shares of the image, and whether there is one; where not, `WHOLE`.

    They are those of the mask enlarged to the image by the nearest position.

    >>> boxes, found = bounding_boxes(np.array([[[0, 1, 0, 0], [0, 1, 1, 0]], [[0] * 4] * 2], bool))
    >>> boxes.tolist(), found.tolist()
    ([[0.25, 0.0, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0]], [True, False])
    """
    masks = np.asarray(masks, bool)
    images, height, width = masks.shape
    boxes = np.tile(np.array(WHOLE), (images, 1))
    found = np.array([mask.any() for mask in masks], bool)
    for axis, number, place in ((1, width, 0), (2, height, 1)):
        line = np.asarray(masks.any(axis))[found]
        boxes[found, place] = line.argmax(1) / number
        boxes[found, place + 2] = (number - line[:, ::-1].argmax(1)) / number
    return boxes, found


def intersection_over_union(
    boxes: Float[ArrayLike, "images four"], others: Float[ArrayLike, "images four"]
) -> Float[np.ndarray, " images"]:
    """Area that two boxes share over the area that they cover together; 0 where both are empty.

    >>> intersection_over_union([[0, 0, 2, 2], [0, 0, 1, 1]], [[1, 0, 3, 2], [1, 1, 2, 2]]).round(3).tolist()
    [0.333, 0.0]
    """
    a, b = (np.asarray(given, np.float64).reshape(-1, 4) for given in (boxes, others))
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    covered = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    return np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)


def corloc(boxes: Any, known: Any, *, threshold: float = 0.5) -> float:
    """Share of images whose box has an intersection over union above `threshold` with the known one.

    NaN without images.

    >>> corloc([[0, 0, 2, 2], [0, 0, 1, 1]], [[0, 0, 2, 3], [1, 1, 2, 2]])
    0.5

    Source: Deselaers, Alexe and Ferrari, "Weakly Supervised Localization and Learning with Generic
    Knowledge", IJCV 2012, as DDT's and SCDA's authors use it.
    """
    agreement = intersection_over_union(boxes, known)
    return float((agreement > threshold).mean()) if agreement.size else math.nan
