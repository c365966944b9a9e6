"""Cross-validation: training and validation images pooled and divided into folds, the same for every row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from cdml_jax.data.feeds.feed import Feed
from cdml_jax.errors import UserError


def pool(feeds: Mapping[str, Feed]) -> dict[str, Feed]:
    """The feeds with the validation images among the training images: for the last fit, before the test.

    Raises:
      UserError: there is no validation split.
    """
    if "validation" not in feeds:
        raise UserError("the data set has no validation split to pool with the training split")
    pooled = dict(feeds)
    pooled["train"] = pooled["train"].joined(pooled.pop("validation"))
    return pooled


def fold(feeds: Mapping[str, Feed], index: int, number: int) -> dict[str, Feed]:
    """Fold `index` of `number`: trained on the other folds of `pool`, validated on this one, without a test.

    Which fold an image is in depends on its name and its class alone; folds have the same number of images
    of a class, to one. Equal images, where they are known and bound, are in the fold of the first of them.
    """
    pooled = (pool(feeds) if "validation" in feeds else feeds)["train"]
    inside = _fold_of(pooled, number) == index
    return {
        "train": pooled.select(np.flatnonzero(~inside)),
        "validation": pooled.select(np.flatnonzero(inside)),
    }


def _fold_of(feed: Feed, number: int) -> np.ndarray:
    """(n,) the fold of each image."""
    labels = np.asarray(feed.labels)
    digests = [hashlib.sha256(f"fold\0{feed.name(i)}".encode()).digest() for i in range(len(feed))]
    folds, turn = np.empty(len(labels), int), 0
    first: dict[str, int] = {}  # the fold of each content
    for label in np.unique(labels).tolist():
        for index in sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: digests[i]):
            content = feed.content(index)
            bound = content.digest if content.bound else ""
            if bound and bound in first:
                folds[index] = first[bound]
                continue
            # The turn goes on from class to class, so that the folds' sizes differ by one image at most.
            folds[index], turn = turn % number, turn + 1
            first[bound] = folds[index]
    return folds
