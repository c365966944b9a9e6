"""How many images a second a core of this machine prepares, to compare with what a slice would take."""

from __future__ import annotations

import time

import cv2
import numpy as np

from cdml_jax.data.dataset import Source
from cdml_jax.data.feeds.feed import ImageFeed
from cdml_jax.data.images.transforms import Transform

_SECONDS = 1.0
_DRAWN = (375, 500)  # pixels of a photograph as the published sets have them: height, width
MEASURED_ON = f"a drawn JPEG of {_DRAWN[1]} x {_DRAWN[0]} pixels, in place of the training images"


class _Photograph:
    """One drawn photograph, again and again, as a JPEG file."""

    def __init__(self, images: int):
        rough = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
        pixels = cv2.resize(rough, _DRAWN[::-1], interpolation=cv2.INTER_CUBIC)
        self._file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        self.labels = np.zeros(images, np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> bytes:
        return self._file

    def name(self, index: int) -> str:
        return f"drawn[{index}]"


def images_a_core(transform: Transform, source: Source | None = None) -> float:
    """Images a second that one core reads, decodes and augments: of the source, or a drawn JPEG of 500 x 375.

    Args:
      transform: the augmentation.
      source: training images, where they are there.
    """
    images: Source = source if source is not None else _Photograph(64)  # type: ignore[assignment]
    rows = min(16, len(images))
    feed = ImageFeed(images, transform, rows, num_threads=0)
    order = np.random.default_rng(1).integers(0, len(images), (10_000, rows))
    batches = feed.training(order, seed=0, epoch=0)
    next(batches)
    done, began = 0, time.process_time()
    while time.process_time() - began < _SECONDS:
        next(batches)
        done += rows
    batches.close()
    return done / (time.process_time() - began)
