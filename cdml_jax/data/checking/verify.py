"""What is wrong with a data set, found before training begins and said in one message."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from etils import epath

from cdml_jax.data.checking import known
from cdml_jax.data.checking.copies import (
    IN_TWO_SPLITS,
    MOST_COMPARED,
    Image,
    images_of,
    note_copies,
    note_near_copies,
)
from cdml_jax.data.checking.images import Checked, check_images, digest_images
from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.dataset import Dataset, stamp_of
from cdml_jax.data.dividing.derived import Digested
from cdml_jax.system import console

NO_IMAGE = "split without an image"
NO_TRAINING_IMAGE = "class without a training image"
Known = dict[str, list[Checked]]  # what is known of each split's images


def verify(
    dataset: Dataset,
    problems: Problems,
    *,
    cache: epath.Path | None,
    images: bool = True,
    published: bool = False,
    remembered: bool = True,
    thorough: bool = False,
    divide: Callable[[Dataset], Dataset] = lambda dataset: dataset,
) -> Dataset:
    """Raises one UserError that names everything wrong with a data set, and warns of all else that it notes.

    Wrong are: fewer than two classes, a class name given twice, a class without a training image, a label out
    of range, an empty split, an image that cannot be decoded, and an image that is in two splits, by name or
    by content. Noted are: equal images in one class or under several, images with damaged data, with
    transparency, or of 16 bits that come out dark. What was once decoded is remembered under `cache` by size
    and time of change.

    Args:
      dataset: what to check.
      problems: what its reader has found already.
      cache: folder for the list of images known to be good; None for none.
      images: whether to decode the images and compare their contents. Else only contents of files of one size
        are read, where a split is to be drawn by contents.
      published: the splits are a publisher's own: the same content in two of them is only a warning, and what
        is drawn of them goes by names alone.
      remembered: whether an image of the size and time of change at which it was found good is taken to be
        unchanged.
      thorough: whether to look for nearly equal images too, in up to `MOST_COMPARED`.
      divide: draws further splits, once contents are known.

    Returns:
      The data set, divided, with the digests of its images' contents where they were decoded.

    Raises:
      UserError: there is any problem.
    """
    _check_classes(dataset, problems)
    for split, source in dataset.splits.items():
        labels = np.asarray(source.labels)
        if len(labels) == 0:
            problems.add(NO_IMAGE, split)
        own = dataset.test_class_names if split == "test" else None
        count = dataset.num_classes if own is None else len(own)
        for i in np.flatnonzero((labels < 0) | (labels >= count)).tolist():
            problems.add(out_of_range(count), f"{source.name(i)} has {labels[i]}")
    _check_names(dataset, problems)
    path = known.list_of(dataset, cache)
    found: Known = {}
    if images:
        found = _check_images(dataset, problems, path, remembered)
    elif not published:
        found = _digest_images(dataset, path)
    if found:
        dataset = _with_digests(dataset, found, bound=not published)
    dataset = divide(dataset)
    if images:
        everything = images_of(dataset)
        note_copies(everything, problems, published=published, thorough=thorough)
        if thorough:
            small = {c.digest: c.small for of_split in found.values() for c in of_split if c.small}
            _note_near(everything, small, problems)
    problems.raise_if_any()
    problems.warn()
    contents = {split: _digest_of_all(dataset.digests(split)) for split in dataset.splits} if images else {}
    return dataclasses.replace(dataset, contents=contents)


def out_of_range(count: int) -> str:
    """The kind of a problem: a label that none of so many classes has."""
    return f"label out of range 0 to {count - 1}"


def _note_near(images: list[Image], small: dict[str, str], problems: Problems) -> None:
    if len(images) > MOST_COMPARED:
        console.say(f"Nearly equal images were not looked for: there are more than {MOST_COMPARED:,} images.")
    else:
        note_near_copies(images, small, problems)


def _digest_of_all(digests: np.ndarray) -> str:
    return hashlib.sha256("".join(digests.tolist()).encode()).hexdigest()


def _with_digests(dataset: Dataset, found: Known, *, bound: bool) -> Dataset:
    splits = {
        split: Digested(source, [checked.digest for checked in found[split]], bound=bound)
        for split, source in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits)


def _check_classes(dataset: Dataset, problems: Problems) -> None:
    names = dataset.classes.names
    if len(names) < 2:
        problems.add("fewer than two classes", ", ".join(names) or "none found")
    for name, times in Counter(names).items():
        if times > 1 and not problems.has("class name given twice"):
            classes = [str(c) for c, other in enumerate(names) if other == name]
            problems.add("class name given twice", f"{name} (classes {' and '.join(classes)})")
    if "train" in dataset.splits:
        present = set(np.unique(dataset.splits["train"].labels).tolist())
        alike = {_plain(names[label]): names[label] for label in present if 0 <= label < len(names)}
        for label, name in enumerate(names):
            if label not in present:
                other = alike.get(_plain(name))
                problems.add(NO_TRAINING_IMAGE, f"{name!r} (train has {other!r})" if other else name)


def _plain(name: str) -> str:
    """A name without what people overlook: capitals, and spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name)).casefold() or name


def _named_images(dataset: Dataset) -> Iterator[tuple[str, int, str]]:
    """Split, index and name of every image."""
    for split, source in dataset.splits.items():
        for index in range(len(source)):
            yield split, index, source.name(index)


def _check_names(dataset: Dataset, problems: Problems) -> None:
    seen: dict[str, str] = {}
    for split, _, name in _named_images(dataset):
        first = seen.get(name)
        seen.setdefault(name, split)
        if first == split:
            problems.add("image listed twice", f"{name} (in {split})")
        elif first is not None:
            problems.add(IN_TWO_SPLITS, f"{name} (in {first} and {split})")


def _stamps(dataset: Dataset) -> dict[str, list[known.Stamp]]:
    with console.working("Looking for changed images"):
        return {
            split: [stamp_of(source, i) for i in range(len(source))]
            for split, source in dataset.splits.items()
        }


def _check_images(dataset: Dataset, problems: Problems, path: epath.Path | None, remembered: bool) -> Known:
    """Decodes every image that is not known to be good."""
    # 1. What is known: an image whose stamp is in the list of good ones is not opened.
    stamps = _stamps(dataset)
    small = sum(map(len, stamps.values())) <= MOST_COMPARED
    good = known.read(path) if remembered else {}
    found = {
        split: [good.get(stamp, Checked()) if stamp[1] >= 0 else Checked() for stamp in of_split]
        for split, of_split in stamps.items()
    }
    unknown = [
        (split, i)
        for split, of_split in found.items()
        for i, checked in enumerate(of_split)
        if not checked.decoded or (small and not checked.small)
    ]
    # 2. All others are decoded.
    results = check_images([(dataset.splits[split], i) for split, i in unknown], small=small)
    for (split, i), checked in zip(unknown, results, strict=True):
        found[split][i] = checked
    # 3. A problem for each that cannot be read, notes on what is worth knowing, an entry for each good one.
    fresh: dict[known.Stamp, Checked] = {}
    for split, index, name in _named_images(dataset):
        checked, stamp = found[split][index], stamps[split][index]
        if checked.fault:
            problems.add("image that cannot be read", f"{name} ({checked.fault})")
        elif stamp[1] >= 0:  # else nothing would show that it has changed
            fresh[stamp] = checked
        for trait in checked.traits:
            kind, _, detail = trait.partition(": ")
            problems.note(kind, f"{name} ({detail})" if detail else name)
    _remember(path, good, fresh)
    return found


def _digest_images(dataset: Dataset, path: epath.Path | None) -> Known:
    """Digests of the images that may have copies: only files of the same size are read."""
    stamps = _stamps(dataset)
    sizes = Counter(size for of_split in stamps.values() for _, size, _ in of_split)
    good = known.read(path)
    found = {split: [good.get(stamp, Checked()) for stamp in stamps[split]] for split in stamps}
    unknown = [
        (split, i)
        for split, of_split in stamps.items()
        for i, stamp in enumerate(of_split)
        if sizes[stamp[1]] > 1 and not found[split][i].digest
    ]
    fresh = {}
    results = digest_images([(dataset.splits[split], i) for split, i in unknown])
    for (split, i), checked in zip(unknown, results, strict=True):
        found[split][i] = checked
        if checked.digest and stamps[split][i][1] >= 0:
            fresh[stamps[split][i]] = checked
    _remember(path, good, fresh)
    return found


def _remember(
    path: epath.Path | None, good: dict[known.Stamp, Checked], fresh: dict[known.Stamp, Checked]
) -> None:
    if path is not None and not fresh.items() <= good.items():
        known.write(path, good | fresh)
