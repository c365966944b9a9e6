"""What a data set is to the rest of the program: named classes and disjoint splits of labelled images."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from cdml_jax.data.decoding import decode
from cdml_jax.errors import UserError

SPLITS = ("train", "holdout", "validation", "test")


class Source(Protocol):
    """Labelled images in a fixed order.

    Attributes:
      labels: (n,) int32.
    """

    labels: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict:
        """{"image": encoded bytes or a uint8 (height, width, 3) array, "label": int}."""
        ...

    def name(self, index: int) -> str:
        """What a message calls the image; the same on every machine."""
        ...


@runtime_checkable
class Stamped(Protocol):
    """A source that can tell whether an image has changed since it was last checked."""

    def stamp(self, index: int) -> tuple[str, int, int]:
        """Where the image is kept, the size in bytes and the time of change in ns of what holds it."""
        ...


class FileSource:
    """Image files below one folder.

    Args:
      root: the folder.
      paths: the files, relative to it, with forward slashes.
      labels: (n,) the class of each.
      names: what to call them; None is by their paths.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        paths: list[str],
        labels: np.ndarray | list[int],
        *,
        names: list[str] | None = None,
    ):
        self._root = Path(root)
        self._paths = tuple(paths)
        self._names = self._paths if names is None else tuple(names)
        self.labels = np.asarray(labels, np.int32).reshape(-1)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict:
        try:
            data = (self._root / self._paths[index]).read_bytes()
        except OSError as error:
            raise UserError(f"cannot be opened ({error.strerror or error})") from error
        return {"image": data, "label": int(self.labels[index])}

    def name(self, index: int) -> str:
        """The path relative to the folder, unless it was given a name."""
        return self._names[index]

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The file's whole path, size and time of change."""
        path = self._root / self._paths[index]
        try:
            status = path.stat()
        except OSError:
            return str(path), -1, -1
        return str(path.absolute()), status.st_size, status.st_mtime_ns


class Subset:
    """Some images of another source, in a given order.

    Args:
      source: the other source.
      indices: (m,) which images.
    """

    def __init__(self, source: Source, indices: np.ndarray):
        self._source = source
        self._indices = np.asarray(indices, np.int64)
        self.labels = np.asarray(source.labels, np.int32)[self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        return self._source[int(self._indices[index])]

    def name(self, index: int) -> str:
        """The image's name in the other source."""
        return self._source.name(int(self._indices[index]))

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The image's stamp in the other source."""
        if not isinstance(self._source, Stamped):
            return self.name(index), -1, -1
        return self._source.stamp(int(self._indices[index]))


class Joined:
    """Several sources as one, in the order given.

    Args:
      sources: one or more.
    """

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])
        self.labels = np.concatenate([np.asarray(source.labels, np.int32) for source in sources])

    def _find(self, index: int) -> tuple[Source, int]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[part], index - (int(self._ends[part - 1]) if part else 0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict:
        source, position = self._find(index)
        return source[position]

    def name(self, index: int) -> str:
        """The image's name in its own source."""
        source, position = self._find(index)
        return source.name(position)

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The image's stamp in its own source."""
        source, position = self._find(index)
        return source.stamp(position) if isinstance(source, Stamped) else (source.name(position), -1, -1)


class BottomCropped:
    """A source whose images lose some rows of pixels at the foot, such as a banner with the copyright.

    Args:
      source: the images as they are stored.
      pixels: how many rows to cut off.
    """

    def __init__(self, source: Source, pixels: int):
        self.stored, self.pixels = source, pixels
        self.labels = np.asarray(source.labels, np.int32)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> dict:
        item = self.stored[index]
        image = decode(item["image"]) if isinstance(item["image"], bytes) else item["image"]
        if image.shape[0] <= self.pixels:
            raise UserError(f"{image.shape[0]} pixels high, no more than the {self.pixels} to be cut off")
        return {**item, "image": image[: -self.pixels]}

    def name(self, index: int) -> str:
        """The image's name in the other source."""
        return self.stored.name(index)

    def stamp(self, index: int) -> tuple[str, int, int]:
        """The image's stamp in the other source."""
        return (
            self.stored.stamp(index)
            if isinstance(self.stored, Stamped)
            else (self.stored.name(index), -1, -1)
        )


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Classes, their kinship where it is known, and disjoint splits.

    Attributes:
      name: what tables and pictures call it.
      class_names: one a class.
      families: (C,) int32, the family (coarse label) of each class, or None.
      family_names: one a family, or None.
      splits: sources under "train" and any of "holdout", "validation" and "test".
      checksum: digest of the publisher's splits, where there is one (`split_checksum`); else "".
      contents: digest of the contents of each split's images, where they were decoded and checked.
      test_class_names: the test split's own classes, which its labels number from 0, where training never
        sees them; None where they are `class_names`.
    """

    name: str
    class_names: tuple[str, ...]
    families: np.ndarray | None
    family_names: tuple[str, ...] | None
    splits: Mapping[str, Source]
    checksum: str = ""
    test_class_names: tuple[str, ...] | None = None
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def fingerprint(self) -> str:
        """A digest of the class names and of the image names and labels of each split.

        Two runs whose fingerprints differ must not share a table, nor a checkpoint.

        Returns:
          64 hexadecimal digits (SHA-256).
        """
        digest = hashlib.sha256()
        for name in self.class_names:
            digest.update(f"class\0{name}\0".encode())
        for name in self.test_class_names or ():
            digest.update(f"test class\0{name}\0".encode())
        for split in sorted(self.splits):
            source = self.splits[split]
            digest.update(f"split\0{split}\0{len(source)}\0".encode())
            for index, label in enumerate(np.asarray(source.labels).tolist()):
                digest.update(f"{source.name(index)}\0{label}\0".encode())
        return digest.hexdigest()


def carve(source: Source, fraction: float, *, salt: str) -> tuple[Source, Source]:
    """Takes a share of every class out of a source.

    The images taken are those whose names have the smallest digests, so they depend on the names and the
    salt, not on the order of the files. The shares of the classes are by largest remainder, so that the whole
    has `fraction` of the images; a class always keeps one image or more.

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
    for c, rows in members.items():
        taken[sorted(rows.tolist(), key=lambda i: digests[i])[: quota[c]]] = True
    return Subset(source, np.flatnonzero(~taken)), Subset(source, np.flatnonzero(taken))
