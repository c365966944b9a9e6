"""What a data set is to the rest of the program: named classes and disjoint splits of labelled images."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError

_LARGEST_LABEL = np.iinfo(np.int32).max


class Source(Protocol):
    """Labelled images in a fixed order.

    Attributes:
      labels: (n,) int32.
    """

    labels: np.ndarray

    def __len__(self) -> int: ...

    def image(self, index: int) -> bytes | np.ndarray:
        """An encoded image file, or a uint8 (height, width, 3) array of red, green, blue.

        Raises:
          UserError: it cannot be read; the message need not name it.
        """
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


def stamp_of(source: Source, index: int) -> tuple[str, int, int]:
    """An image's stamp; its name, and −1 for what is not known, where the source has no stamps."""
    return source.stamp(index) if isinstance(source, Stamped) else (source.name(index), -1, -1)


class Content(NamedTuple):
    """What is known of an image's content.

    Attributes:
      digest: of the image as its source gives it; "" where it is not known.
      bound: images of this content stay in one split where a split is drawn.
    """

    digest: str = ""
    bound: bool = False


def content_of(source: Source, index: int) -> Content:
    """What is known of an image's content: nothing, where the source cannot say it by `content(index)`."""
    content = getattr(source, "content", None)  # to ask for a protocol takes longer, and this is asked often
    return Content() if content is None else content(index)


class ArraySource:
    """Images in memory: numpy arrays as one split of a data set.

    Args:
      images: uint8 (n, height, width, 3), red, green, blue; or a sequence of images of any sizes, each a
        uint8 (height, width, 3) array or an encoded file's bytes. They are not copied.
      labels: (n,) integers from 0.
      names: what messages call the images, no two alike in a data set; None is by place and content. The
        division into folds and shares goes by names, so equal names give equal divisions.

    Raises:
      UserError: a shape, a dtype, a length or a label is not as above.

    >>> source = ArraySource(np.zeros((2, 4, 6, 3), np.uint8), [0, 1], names=["a", "b"])
    >>> source.image(1).shape, source.name(1)
    ((4, 6, 3), 'b')
    >>> ArraySource(np.zeros((2, 4, 6, 3)), [0, 1])
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: images: float64, not uint8; scale them to 0 to 255 and convert them
    """

    def __init__(
        self,
        images: np.ndarray | Sequence[np.ndarray | bytes],
        labels: np.ndarray | Sequence[int],
        names: Sequence[str] | None = None,
    ):
        if hasattr(images, "__array__"):  # another library's too
            images = np.asarray(images)
            _check_pixels("images", images, ("n", "height", "width", "3"))
        else:
            images = [image if isinstance(image, bytes) else np.asarray(image) for image in images]
            for i, image in enumerate(images):
                if not isinstance(image, bytes):
                    _check_pixels(f"images[{i}]", image, ("height", "width", "3"))
        for what, given in (("labels", labels), ("names", names)):
            if given is not None and len(given) != len(images):
                raise UserError(f"{what}: {len(given):,} for {len(images):,} images")
        if names is not None and len(set(names)) < len(names):
            twice = next(name for name, times in collections.Counter(names).items() if times > 1)
            raise UserError(f"names: {twice!r} is given twice; no two images may be called alike")
        self._images, self.labels = images, _checked_labels(labels)
        self._names: list[str | None] = [None] * len(images) if names is None else [str(n) for n in names]

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> bytes | np.ndarray:
        """The image as it was given."""
        return self._images[index]

    def name(self, index: int) -> str:
        """The name that was given, or "image INDEX (DIGEST)"."""
        name = self._names[index]
        if name is None:
            # By content too, so that the fingerprint of other images differs, and that of another split.
            image = self._images[index]
            data = image if isinstance(image, bytes) else np.ascontiguousarray(image)
            name = f"image {index} ({hashlib.blake2b(data, digest_size=6).hexdigest()})"
            self._names[index] = name
        return name


def _check_pixels(what: str, images: np.ndarray, axes: tuple[str, ...]) -> None:
    if images.ndim != len(axes) or images.shape[-1] != 3:
        remedy = ""
        if images.ndim == len(axes) - 1:
            remedy = "; of grey images, stack the one channel three times"
        elif images.ndim == len(axes) and images.shape[-3] == 3:
            remedy = "; move the channels to the end"
        raise UserError(f"{what}: shape {images.shape}, not ({', '.join(axes)}){remedy}")
    if images.dtype != np.uint8:
        raise UserError(f"{what}: {images.dtype}, not uint8; scale them to 0 to 255 and convert them")


def _checked_labels(labels: np.ndarray | Sequence[int]) -> np.ndarray:
    given = np.asarray(labels)
    if given.ndim != 1:
        raise UserError(f"labels: shape {given.shape}, not (n,)")
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise UserError(f"labels: {given.dtype}, not integers")
    outside = np.flatnonzero((given < 0) | (given > _LARGEST_LABEL))
    if outside.size:
        raise UserError(
            f"labels[{outside[0]}]: {given[outside[0]]}; labels count from 0 to {_LARGEST_LABEL:,}"
        )
    return given.astype(np.int32)


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

    def image(self, index: int) -> bytes:
        """The file's bytes."""
        try:
            return (self._root / self._paths[index]).read_bytes()
        except OSError as error:
            raise UserError(f"cannot be opened ({error.strerror or error})") from error

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


KnownBox = tuple[float, float, float, float]
"""Left, top, right and bottom of an object, in pixels of the image, right and bottom excluded."""

SPLITS = ("train", "holdout", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Classes and disjoint splits of labelled images.

    Attributes:
      name: what tables and pictures call it.
      classes: the classes' names, and their families where those are known.
      splits: sources under "train" and any of "holdout", "validation" and "test".
      checksum: digest of the publisher's splits, where there is one (`split_checksum`); else "".
      contents: digest of the contents of each split's images, where they were decoded and checked; those of
        single images are `digests(split)`.
      boxes: of the objects, by the images' names, where the publisher has them; nothing is trained on them.
      test_class_names: the test split's own classes, which its labels number from 0, where training never
        sees them; None where they are `classes`.

    >>> train = ArraySource(np.zeros((4, 8, 8, 3), np.uint8), [0, 0, 1, 1])
    >>> Dataset("mine", Classes(("crow", "owl")), {"train": train}).num_classes
    2
    """

    name: str
    classes: Classes
    splits: Mapping[str, Source]
    checksum: str = ""
    test_class_names: tuple[str, ...] | None = None
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)
    boxes: Mapping[str, KnownBox] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.classes, Classes):
            raise UserError(f"classes must be Classes(names), not {type(self.classes).__name__}")
        unknown = [split for split in self.splits if split not in SPLITS]
        if unknown:
            raise UserError(f"splits: {unknown[0]!r} is unknown; choose of {', '.join(SPLITS)}")

    @property
    def num_classes(self) -> int:
        """C."""
        return self.classes.number

    def digests(self, split: str) -> np.ndarray:
        """(n,) digest of each image's content in a split: 24 hexadecimal digits, "" where it is unknown."""
        source = self.splits[split]
        return np.array([content_of(source, i).digest for i in range(len(source))], dtype="U24")

    def fingerprint(self) -> str:
        """A digest of the class names and of the image names and labels of each split.

        Two runs whose fingerprints differ must not share a table, nor a checkpoint.

        Returns:
          64 hexadecimal digits (SHA-256).
        """
        digest = hashlib.sha256()
        for name in self.classes.names:
            digest.update(f"class\0{name}\0".encode())
        for name in self.test_class_names or ():
            digest.update(f"test class\0{name}\0".encode())
        for split in sorted(self.splits):
            source = self.splits[split]
            digest.update(f"split\0{split}\0{len(source)}\0".encode())
            for index, label in enumerate(np.asarray(source.labels).tolist()):
                digest.update(f"{source.name(index)}\0{label}\0".encode())
        return digest.hexdigest()
