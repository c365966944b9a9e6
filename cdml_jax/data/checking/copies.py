"""Images that are there more than once: equal ones by their digests, nearly equal ones by small pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cdml_jax.data.checking.images import pixels_of
from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.dataset import Dataset, content_of
from cdml_jax.system import console

IN_TWO_SPLITS = "image in two splits"
IN_PUBLISHED_SPLITS = "image in two splits, as published"
UNDER_CLASSES = "one image under several classes"
IN_ONE_CLASS = "copies of one image in a class"
NEAR_UNDER_CLASSES = "nearly equal images under several classes"
NEAR_IN_TWO_SPLITS = "nearly equal images in two splits"
NEAR_IN_ONE_CLASS = "nearly equal images in a class"
BOUND = ", which a drawn split keeps together"

MOST_COMPARED = 30_000
"""The most images that are compared pair by pair: 10,000 take about 2 seconds, and the time is quadratic."""

# Of 1,500 photographs of birds, 1,500 of groceries and 1,200 drawings no two different ones correlate by more
# than 0.95 in 16 x 16 grey pixels; copies of another size, format, quality or brightness do by 0.98 and more.
_ALIKE = 0.97
_FLAT = 2.0  # grey levels of standard deviation below which there is nothing to compare
_BLOCK = 1024  # rows of the matrix of correlations at a time


class Image(NamedTuple):
    """An image of a data set: where it is, its class, and its digest, "" where it is not known."""

    split: str
    name: str
    class_name: str
    digest: str


def images_of(dataset: Dataset) -> list[Image]:
    """Every image of a data set."""
    names = {split: dict(enumerate(dataset.classes.names)) for split in dataset.splits}
    if dataset.test_class_names is not None:
        names["test"] = dict(enumerate(dataset.test_class_names))
    return [
        Image(split, source.name(i), names[split].get(label, str(label)), content_of(source, i).digest)
        for split, source in dataset.splits.items()
        for i, label in enumerate(np.asarray(source.labels).tolist())
    ]


def note_copies(images: list[Image], problems: Problems, *, published: bool, thorough: bool) -> None:
    """Adds what is known of equal images: a problem for those in two splits, a note for all others.

    Of a published set those in two splits are a note too: a benchmark is what its publisher made it, and to
    refuse it would help nobody.

    Args:
      images: all of a data set.
      problems: collects what is found.
      published: the splits are a publisher's own.
      thorough: whether to note other copies in a published set.
    """
    together = "" if published else BOUND
    for group in _equal(images):
        first = group[0]
        others = [image for image in group if image.split != first.split and image.name != first.name]
        for other in others:
            copy = f"{first.name} (in {first.split}) and {other.name} (in {other.split})"
            if published:
                problems.note(IN_PUBLISHED_SPLITS, copy)
            else:
                problems.add(IN_TWO_SPLITS, copy)
        if published and not thorough:
            continue
        if len({image.class_name for image in group}) > 1:
            bound = "" if others else together  # in splits of one's own they are apart already
            problems.note(UNDER_CLASSES + bound, _with_classes(group))
        elif not others and len({image.name for image in group}) > 1:
            problems.note(IN_ONE_CLASS + together, " and ".join(image.name for image in group))


def note_near_copies(images: list[Image], small: dict[str, str], problems: Problems) -> None:
    """Adds a note for each group of images that are nearly equal, of which equal ones count once.

    Args:
      images: all of a data set.
      small: the small picture of each digest.
      problems: collects what is found.
    """
    for group in _near(images, small):
        if len({image.class_name for image in group}) > 1:
            problems.note(NEAR_UNDER_CLASSES, _with_classes(group))
        elif len({image.split for image in group}) > 1:
            named = (f"{image.name} (in {image.split})" for image in group)
            problems.note(NEAR_IN_TWO_SPLITS, " and ".join(named))
        else:
            problems.note(NEAR_IN_ONE_CLASS, " and ".join(image.name for image in group))


def copies_among(images: list[Image], small: dict[str, str]) -> list[list[Image]]:
    """Groups of images that are equal or nearly so.

    Args:
      images: any.
      small: the small picture of each digest.
    """
    of_digest: dict[str, list[Image]] = {}
    for image in images:
        if image.digest:
            of_digest.setdefault(image.digest, []).append(image)
    groups: list[list[Image]] = []
    joined: set[str] = set()
    for group in _near(images, small):
        joined.update(image.digest for image in group)
        groups.append([other for image in group for other in of_digest[image.digest]])
    return groups + [group for digest, group in of_digest.items() if len(group) > 1 and digest not in joined]


def _with_classes(group: list[Image]) -> str:
    return " and ".join(f"{image.name} ({image.class_name})" for image in group)


def _equal(images: list[Image]) -> list[list[Image]]:
    """Groups of equal images, in the order of their first names."""
    groups: dict[str, list[Image]] = {}
    for image in images:
        if image.digest:
            groups.setdefault(image.digest, []).append(image)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: group[0].name)


def _near(images: list[Image], small: dict[str, str]) -> Iterator[list[Image]]:
    distinct = list({image.digest: image for image in images if image.digest in small}.values())
    if len(distinct) < 2:
        return
    pixels = pixels_of(small[image.digest] for image in distinct).astype(np.float32)
    pixels -= pixels.mean(1, keepdims=True)
    spread = pixels.std(1)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True).clip(1e-6)
    pixels[spread < _FLAT] = 0  # they correlate with nothing
    group = np.arange(len(distinct))  # of each image, the first image of its group
    blocks = range(0, len(distinct), _BLOCK)
    for start in console.progressing(blocks, "Comparing images", len(blocks), unit="blocks"):
        alike = pixels[start : start + _BLOCK] @ pixels[start:].T > _ALIKE
        alike &= np.arange(alike.shape[1]) > np.arange(len(alike))[:, None]  # each pair once
        for row in np.flatnonzero(alike.any(1)).tolist():
            members = np.append(np.flatnonzero(alike[row]), row) + start
            joined = np.unique(group[members])
            group[np.isin(group, joined)] = joined[0]
    _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    for number in np.flatnonzero(sizes > 1).tolist():
        yield [distinct[i] for i in np.flatnonzero(group == number).tolist()]
