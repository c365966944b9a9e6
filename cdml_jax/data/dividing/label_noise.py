"""Wrong labels on purpose, to see what a method does about them."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from cdml_jax.data.dataset import Content, Dataset, Source, content_of
from cdml_jax.data.dividing.derived import Whole
from cdml_jax.errors import UserError


class Relabelled(Whole):
    """A source in which a share of the images carries the label of another class.

    Which images, and which class each gets, depends on the images' names alone: the images of a smaller share
    are among those of a larger one. Every other class is as likely as the next.

    Args:
      source: the images with their own labels.
      share: of the images, from 0 to 1.
      num_classes: that there are.

    Attributes:
      changed: (n,) bool, which labels are not the source's.
    """

    def __init__(self, source: Source, share: float, num_classes: int):
        super().__init__(source)
        names = (f"label noise\0{source.name(index)}" for index in range(len(source)))
        digests = [hashlib.sha256(name.encode()).digest() for name in names]
        chosen = sorted(range(len(digests)), key=digests.__getitem__)[: round(share * len(digests))]
        self.changed = np.zeros(len(digests), bool)
        self.changed[chosen] = True
        steps = [1 + int.from_bytes(digest[16:24], "big") % (num_classes - 1) for digest in digests]
        wrong = (self.labels + np.asarray(steps, np.int64)) % num_classes
        self.labels = np.where(self.changed, wrong, self.labels).astype(np.int32)

    def content(self, index: int) -> Content:
        """What is known of the image's content in the source."""
        return content_of(self.source, index)


def with_label_noise(dataset: Dataset, share: float) -> Dataset:
    """The data set with wrong labels among its training images alone; 0 gives it back.

    Raises:
      UserError: it has one class.
    """
    if not share:
        return dataset
    if dataset.num_classes < 2:
        raise UserError("data.label_noise: a data set of one class has no wrong label; set it to 0")
    train = Relabelled(dataset.splits["train"], share, dataset.num_classes)
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": train})
