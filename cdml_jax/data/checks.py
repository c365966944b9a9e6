"""What is wrong with a data set, found before training begins and told in one message."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from etils import epath

from cdml_jax.data.dataset import Dataset, Source, stamp_of
from cdml_jax.data.images.decoding import decode
from cdml_jax.errors import UserError
from cdml_jax.system import console, files

_NAMED = 10  # how many files one message names, over all kinds of problems

_MANIFEST_VERSION = 1  # raise it when decoding becomes stricter


class Problems:
    """What is found wrong, collected so that one message can tell all of it.

    Args:
      where: the data set as its user called it.

    >>> problems = Problems("folder:birds")
    >>> problems.add("image that cannot be read", "crow/1.jpg (zero bytes)")
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: folder:birds cannot be used: 1 problem; mend or remove
      image that cannot be read: crow/1.jpg (zero bytes)
    """

    def __init__(self, where: str):
        self._where = where
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, example: str) -> None:
        """Notes one problem: its kind, in the singular, and the file, line or class that has it."""
        self._found.setdefault(kind, []).append(example)

    def has(self, kind: str) -> bool:
        """Whether a problem of this kind was found."""
        return kind in self._found

    def raise_if_any(self) -> None:
        """Raises one UserError with every kind, how often it was found, and some of the places."""
        if not self._found:
            return
        total = sum(map(len, self._found.values()))
        plural = "s" if total > 1 else ""
        lines = [f"{self._where} cannot be used: {total:,} problem{plural}; mend or remove"]
        shown = max(2, _NAMED // len(self._found))
        for kind, places in self._found.items():
            count = f" ({len(places):,})" if len(places) > 1 else ""
            more = f" and {len(places) - shown:,} more" if len(places) > shown else ""
            lines.append(f"  {kind}{count}: {', '.join(places[:shown])}{more}")
        raise UserError("\n".join(lines))


def verify(
    dataset: Dataset,
    problems: Problems,
    *,
    cache: epath.Path | None,
    images: bool = True,
    published: bool = False,
) -> dict[str, str]:
    """Raises one UserError that tells everything wrong with a data set.

    Found are: fewer than two classes, a class name given twice, a class without a training image, a label out
    of range, an empty split, an image that cannot be decoded, and an image that is in two splits, by name or
    by content. What was once decoded is remembered under `cache` by size and time of change.

    Args:
      dataset: what to check.
      problems: what its reader has found already.
      cache: folder for the list of images known to be good; None for none.
      images: whether to decode the images and compare their contents.
      published: the splits are a publisher's own: the same content in two of them is only a warning.

    Returns:
      Digest of the contents of each split's images; empty if they were not decoded.

    Raises:
      UserError: there is any problem.
    """
    _check_classes(dataset, problems)
    for split, source in dataset.splits.items():
        labels = np.asarray(source.labels)
        if len(labels) == 0:
            problems.add("split without an image", split)
        own = dataset.test_class_names if split == "test" else None
        count = dataset.num_classes if own is None else len(own)
        for i in np.flatnonzero((labels < 0) | (labels >= count)).tolist():
            problems.add(f"label out of range 0 to {count - 1}", f"{source.name(i)} has {labels[i]}")
    _check_names(dataset, problems)
    digests = _check_images(dataset, problems, cache) if images else {}
    if images:
        copies = _find_copies(dataset, digests)
        if published and copies:
            # A benchmark is what its publisher made it; to refuse it would help nobody.
            console.warn(f"{len(copies)} images are in two splits, for one: {copies[0]}")
        for copy in [] if published else copies:
            problems.add("image in two splits", copy)
    problems.raise_if_any()
    return {
        split: hashlib.sha256("".join(filter(None, each)).encode()).hexdigest()
        for split, each in digests.items()
    }


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
        for label, name in enumerate(names):
            if label not in present:
                problems.add("class without a training image", name)


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
            problems.add("image in two splits", f"{name} (in {first} and {split})")


def _find_copies(dataset: Dataset, digests: dict[str, list[str | None]]) -> list[str]:
    """Images of one content under different names in different splits."""
    seen: dict[str, tuple[str, str]] = {}
    copies = []
    for split, index, name in _named_images(dataset):
        digest = digests[split][index]
        if digest is None:  # it cannot be read
            continue
        first, where = seen.setdefault(digest, (name, split))
        if where != split and first != name:
            copies.append(f"{first} (in {where}) and {name} (in {split})")
    return copies


def _check_images(
    dataset: Dataset, problems: Problems, cache: epath.Path | None
) -> dict[str, list[str | None]]:
    """Decodes every image that is not known to be good; gives the digests of the contents by split."""
    # 1. What is known: an image whose stamp is in the list of good ones is not opened.
    manifest = None if cache is None else cache / "checked" / f"{_key(dataset)}.json"
    known = _read_manifest(manifest)
    with console.working("Looking for changed images"):
        stamps = {
            split: [stamp_of(source, i) for i in range(len(source))]
            for split, source in dataset.splits.items()
        }
    unknown = [
        (split, i)
        for split, of_split in stamps.items()
        for i, (where, *stamp) in enumerate(of_split)
        if known.get(where, [None, None])[:2] != stamp
    ]
    # 2. All others are decoded.
    results = dict(zip(unknown, _checked_images(dataset, unknown), strict=True))
    # 3. A digest for every image, a problem for each that cannot be read, an entry for each good one.
    digests: dict[str, list[str | None]] = {split: [] for split in stamps}
    fresh: dict[str, list] = {}
    for split, index, name in _named_images(dataset):
        where, size, changed = stamps[split][index]
        digest, fault = results.get((split, index)) or (known[where][2], "")
        digests[split].append(digest)
        if fault:
            problems.add("image that cannot be read", f"{name} ({fault})")
        elif size >= 0:  # else nothing would tell that it has changed
            fresh[where] = [size, changed, digest]
    if manifest is not None and not fresh.items() <= known.items():
        _write_manifest(manifest, known | fresh)
    return digests


def _checked_images(dataset: Dataset, images: list[tuple[str, int]]) -> Iterator[tuple[str | None, str]]:
    """What `_check_image` finds of each image (split, index), by several threads."""
    if not images:
        return
    cv2.setNumThreads(1)  # the threads here are the parallelism
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda at: _check_image(dataset.splits[at[0]], at[1]), images)
        yield from console.progressing(found, "Checking images", len(images))


def _check_image(source: Source, index: int) -> tuple[str | None, str]:
    """The digest of an image's content and what is wrong with it, one of them empty."""
    try:
        image = source.image(index)
        if isinstance(image, bytes):
            decode(image)
        elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            return None, f"{image.dtype} {image.shape}, not uint8 (height, width, 3)"
    except Exception as error:  # whatever is wrong with one image must not hide what is wrong with the next
        return None, str(error)
    return hashlib.blake2b(image, digest_size=12).hexdigest(), ""


def _key(dataset: Dataset) -> str:
    # The first of all images, so that a set has one list however it is divided.
    first = min((stamp_of(s, i)[0] for s in dataset.splits.values() for i in range(len(s))), default="")
    return hashlib.sha256(f"{dataset.name}\0{first}".encode()).hexdigest()[:24]


def _read_manifest(path: epath.Path | None) -> dict[str, list]:
    if path is None:
        return {}
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.get("version") == _MANIFEST_VERSION:
            return {k: v for k, v in content["images"].items() if isinstance(v, list) and len(v) == 3}
    return {}


def _write_manifest(path: epath.Path, images: dict[str, list]) -> None:
    # A cache folder that cannot be written costs time at the next start, nothing else.
    with contextlib.suppress(OSError), files.replacing(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"version": _MANIFEST_VERSION, "images": images}))
