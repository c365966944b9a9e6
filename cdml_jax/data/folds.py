"""Cross-validation: training and validation images pooled and divided into folds, the same for every row."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from cdml_jax.data.dataset import Dataset, Joined, Source, Subset
from cdml_jax.data.features import FeatureSource
from cdml_jax.errors import UserError


def pool(dataset: Dataset) -> Dataset:
    """The data set with its validation images among its training images: for the last fit, before the test.

    Raises:
      UserError: there is no validation split.
    """
    if "validation" not in dataset.splits:
        raise UserError(f"{dataset.name} has no validation split to pool with the training split")
    splits = dict(dataset.splits)
    splits["train"] = _join(splits["train"], splits.pop("validation"))
    return dataclasses.replace(dataset, splits=splits)


def fold(dataset: Dataset, index: int, number: int) -> Dataset:
    """Fold `index` of `number`: trained on the other folds of `pool`, validated on this one, without a test.

    Which fold an image is in depends on its name and its class alone; folds have the same number of images
    of a class, to one.
    """
    pooled = pool(dataset).splits["train"]
    inside = _fold_of(pooled, number) == index
    return dataclasses.replace(
        dataset,
        splits={
            "train": _select(pooled, np.flatnonzero(~inside)),
            "validation": _select(pooled, np.flatnonzero(inside)),
        },
    )


def _fold_of(source: Source, number: int) -> np.ndarray:
    labels = np.asarray(source.labels)
    digests = [hashlib.sha256(f"fold\0{source.name(i)}".encode()).digest() for i in range(len(source))]
    folds, turn = np.empty(len(labels), int), 0
    for label in np.unique(labels).tolist():
        for index in sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: digests[i]):
            # The turn goes on from class to class, so that the folds' sizes differ by one image at most.
            folds[index], turn = turn % number, turn + 1
    return folds


def _join(first: Source, second: Source) -> Source:
    if isinstance(first, FeatureSource) and isinstance(second, FeatureSource):
        views = min(first.features.shape[1], second.features.shape[1])
        features = np.concatenate([first.features[:, :views], second.features[:, :views]])
        return FeatureSource(Joined([first, second]), features)
    return Joined([first, second])


def _select(source: Source, indices: np.ndarray) -> Source:
    if isinstance(source, FeatureSource):
        return FeatureSource(Subset(source, indices), source.features[indices])
    return Subset(source, indices)
