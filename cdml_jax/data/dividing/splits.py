"""Which of a set's own splits serve as train, validation, test and holdout; shares, and splits by classes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset, Source, content_of
from cdml_jax.data.dividing.derived import Joined, Renumbered, Subset
from cdml_jax.errors import UserError

ALIASES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
"""What a split's folder or list may be called when its name is left at the default."""


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


def carve(source: Source, fraction: float, *, salt: str) -> tuple[Source, Source]:
    """Takes a share of every class out of a source.

    The images taken are those whose names have the smallest digests, so they depend on the names and the
    salt, not on the order of the files. The shares of the classes are by largest remainder, so that the whole
    has `fraction` of the images; a class always keeps one image or more. Equal images, where they are known
    and bound, go the same way: a class gives fewer where they are more than its share, and what is there
    under several classes is not taken.

    Args:
      source: what to divide.
      fraction: the share to take, between 0 and 1.
      salt: makes divisions for different purposes independent.

    Returns:
      What is left and what was taken, each in the source's order.
    """
    labels = np.asarray(source.labels)
    digests = [hashlib.sha256(f"{salt}\0{source.name(i)}".encode()).digest() for i in range(len(source))]
    members = {c: np.flatnonzero(labels == c) for c in np.unique(labels).tolist()}
    quota = {c: min(int(fraction * len(m)), len(m) - 1) for c, m in members.items()}
    missing = round(fraction * len(labels)) - sum(quota.values())
    remainders = sorted(
        members, key=lambda c: (quota[c] - fraction * len(members[c]), digests[members[c][0]])
    )
    for c in [c for c in remainders if quota[c] < len(members[c]) - 1][: max(missing, 0)]:
        quota[c] += 1
    taken = np.zeros(len(labels), bool)
    together = _equal_images(source, labels)
    for c, rows in members.items():
        room = quota[c]
        for row in sorted(rows.tolist(), key=lambda i: digests[i]):
            equal = together.get(row, [row])
            if not taken[row] and 0 < len(equal) <= room:
                taken[equal] = True
                room -= len(equal)
    return Subset(source, np.flatnonzero(~taken)), Subset(source, np.flatnonzero(taken))


def _equal_images(source: Source, labels: np.ndarray) -> dict[int, list[int]]:
    """For images that must go the same way all of them; an empty list for those under several classes."""
    groups: dict[str, list[int]] = {}
    for row in range(len(source)):
        content = content_of(source, row)
        if content.bound and content.digest:
            groups.setdefault(content.digest, []).append(row)
    several = {digest for digest, rows in groups.items() if len(np.unique(labels[rows])) > 1}
    return {
        row: [] if digest in several else rows
        for digest, rows in groups.items()
        if len(rows) > 1
        for row in rows
    }


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
    classes = dataset.classes
    if not 0 < first_classes < classes.number:
        raise UserError(
            f"data.class_disjoint: {first_classes} of {classes.number} classes cannot train and "
            "leave others to test on"
        )
    pool = Joined(list(dataset.splits.values()))
    families = None if classes.families is None else classes.families[:first_classes]
    return dataclasses.replace(
        dataset,
        classes=Classes(classes.names[:first_classes], families, classes.family_names),
        splits={
            "train": Renumbered(pool, 0, first_classes),
            "test": Renumbered(pool, first_classes, classes.number),
        },
        test_class_names=classes.names[first_classes:],
    )


def split_checksum(splits: Mapping[str, Source]) -> str:
    """SHA-256 of the sorted lines "split<TAB>name<TAB>label", each ended by a newline.

    Results are comparable where this is the same: the same images, labels (from 0) and division.

    Args:
      splits: the publisher's splits; an image's name is its path as the publisher's lists write it.

    Returns:
      64 hexadecimal digits.
    """
    lines = [
        f"{split}\t{source.name(i)}\t{label}\n"
        for split, source in splits.items()
        for i, label in enumerate(np.asarray(source.labels).tolist())
    ]
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
