"""Which of a set's own splits serve as train, validation, test and holdout; and splits by classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from cdml_jax.data.dataset import Dataset, Joined, Source, Subset
from cdml_jax.errors import UserError


def assign(where: str, splits: Mapping[str, Source], names: Mapping[str, str]) -> dict[str, Source]:
    """The sources by role.

    Args:
      where: the data set as its user called it.
      splits: the set's own splits.
      names: for each role the name of a split, or a sum of names ("train+validation"), or "" for none. A role
        whose name is left at its default is left out where the set has no such split.

    Raises:
      UserError: the set has no split of a name that was asked for.
    """
    chosen: dict[str, Source] = {}
    for role, name in names.items():
        parts = [part.strip() for part in name.split("+")] if name else []
        absent = [part for part in parts if part not in splits]
        if absent and (name != role or role == "train"):
            raise UserError(f"{where}: there is no split {absent[0]!r}; it has {', '.join(splits)}")
        if parts and not absent:
            sources = [splits[part] for part in parts]
            chosen[role] = sources[0] if len(sources) == 1 else Joined(sources)
    return chosen


class Renumbered:
    """The images of some consecutive classes of a source, numbered from 0.

    Args:
      source: the other source.
      first: the class that becomes 0.
      stop: the first class after them.
    """

    def __init__(self, source: Source, first: int, stop: int):
        labels = np.asarray(source.labels)
        self._images = Subset(source, np.flatnonzero((labels >= first) & (labels < stop)))
        self.labels = (self._images.labels - first).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {**self._images[index], "label": int(self.labels[index])}

    def name(self, index: int) -> str:
        """The image's name in the other source."""
        return self._images.name(index)

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The image's stamp in the other source."""
        return self._images.stamp(index)


def by_classes(dataset: Dataset, first_classes: int) -> Dataset:
    """The retrieval protocol: the first classes train, the others, never seen, test.

    All images of a class go the same way, whatever the publisher's splits say. (H. Oh Song et al., "Deep
    Metric Learning via Lifted Structured Feature Embedding", CVPR 2016.)

    Args:
      dataset: a set whose splits are disjoint.
      first_classes: how many of the first classes train.

    Returns:
      The data set with the splits "train" and "test" alone; the labels of each count from 0, and the test
      split's classes are `test_class_names`.

    Raises:
      UserError: no class would be left to train or to test on.
    """
    if not 0 < first_classes < dataset.num_classes:
        raise UserError(
            f"data.class_disjoint: {first_classes} of {dataset.num_classes} classes cannot train and "
            "leave others to test on"
        )
    pool = Joined(list(dataset.splits.values()))
    families = None if dataset.families is None else dataset.families[:first_classes]
    return dataclasses.replace(
        dataset,
        class_names=dataset.class_names[:first_classes],
        families=families,
        splits={
            "train": Renumbered(pool, 0, first_classes),
            "test": Renumbered(pool, first_classes, dataset.num_classes),
        },
        test_class_names=dataset.class_names[first_classes:],
    )
