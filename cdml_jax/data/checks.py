"""What is wrong with a data set, found before training begins and told in one message."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from cdml_jax.data.dataset import Dataset, Source, Stamped
from cdml_jax.data.decoding import decode
from cdml_jax.errors import UserError

_LOGGER = logging.getLogger(__name__)
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
    dataset: Dataset, problems: Problems, *, cache: Path, images: bool = True, published: bool = False
) -> dict[str, str]:
    """Raises one UserError that tells everything wrong with a data set.

    Found are: fewer than two classes, a class name given twice, a class without a training image, a label out
    of range, an empty split, an image that cannot be decoded, and an image that is in two splits, by name or
    by content. What was once decoded is remembered under `cache` by size and time of change.

    Args:
      dataset: what to check.
      problems: what its reader has found already.
      cache: folder for the list of images known to be good.
      images: whether to decode the images and compare their contents.
      published: the splits are a publisher's own: the same content in two of them is only logged.

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
            _LOGGER.warning("%d images are in two splits, for one: %s", len(copies), copies[0])
        for copy in [] if published else copies:
            problems.add("image in two splits", copy)
    problems.raise_if_any()
    return {
        split: hashlib.sha256("".join(filter(None, each)).encode()).hexdigest()
        for split, each in digests.items()
    }


def _check_classes(dataset: Dataset, problems: Problems) -> None:
    if dataset.num_classes < 2:
        problems.add("fewer than two classes", ", ".join(dataset.class_names) or "none found")
    for name, times in Counter(dataset.class_names).items():
        if times > 1 and not problems.has("class name given twice"):
            classes = [str(c) for c, other in enumerate(dataset.class_names) if other == name]
            problems.add("class name given twice", f"{name} (classes {' and '.join(classes)})")
    if "train" in dataset.splits:
        present = set(np.unique(dataset.splits["train"].labels).tolist())
        for label, name in enumerate(dataset.class_names):
            if label not in present:
                problems.add("class without a training image", name)


def _check_names(dataset: Dataset, problems: Problems) -> None:
    seen: dict[str, str] = {}
    for split, source in dataset.splits.items():
        for i in range(len(source)):
            name = source.name(i)
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
    for split, source in dataset.splits.items():
        for i, digest in enumerate(digests[split]):
            if digest is None:
                continue
            name = source.name(i)
            first, where = seen.setdefault(digest, (name, split))
            if where != split and first != name:
                copies.append(f"{first} (in {where}) and {name} (in {split})")
    return copies


def _check_images(dataset: Dataset, problems: Problems, cache: Path) -> dict[str, list[str | None]]:
    """Decodes every image that is not known to be good; gives the digests of the contents by split."""
    manifest_path = cache / "checked" / f"{_key(dataset)}.json"
    known = _read_manifest(manifest_path)
    fresh: dict[str, list] = {}
    digests: dict[str, list[str | None]] = {}
    cv2.setNumThreads(1)
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for split, source in dataset.splits.items():
            stamps = [_stamp(source, i) for i in range(len(source))]
            unknown = [i for i, s in enumerate(stamps) if known.get(s[0], [None, None])[:2] != list(s[1:])]
            if unknown:
                _LOGGER.info("checking %d images of %s (once)", len(unknown), split)
            results = dict(zip(unknown, pool.map(lambda i, s=source: _check_image(s, i), unknown)))
            digests[split] = []
            for i, (where, size, changed) in enumerate(stamps):
                digest, fault = results.get(i) or (known[where][2], "")
                digests[split].append(digest)
                if fault:
                    problems.add("image that cannot be read", f"{source.name(i)} ({fault})")
                elif size >= 0:
                    fresh[where] = [size, changed, digest]
    if not fresh.items() <= known.items():
        _write_manifest(manifest_path, known | fresh)
    return digests


def _check_image(source: Source, index: int) -> tuple[str | None, str]:
    """The digest of an image's content and what is wrong with it, one of them empty."""
    try:
        image = source[index]["image"]
        if isinstance(image, bytes):
            decode(image)
        elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            return None, f"{image.dtype} {image.shape}, not uint8 (height, width, 3)"
    except Exception as error:  # whatever is wrong with one image must not hide what is wrong with the next
        return None, str(error)
    return hashlib.blake2b(image, digest_size=12).hexdigest(), ""


def _stamp(source: Source, index: int) -> tuple[str, int, int]:
    return source.stamp(index) if isinstance(source, Stamped) else (source.name(index), -1, -1)


def _key(dataset: Dataset) -> str:
    # The first of all images, so that a set has one list however it is divided.
    first = min((_stamp(s, i)[0] for s in dataset.splits.values() for i in range(len(s))), default="")
    return hashlib.sha256(f"{dataset.name}\0{first}".encode()).hexdigest()[:24]


def _read_manifest(path: Path) -> dict[str, list]:
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.get("version") == _MANIFEST_VERSION:
            return {k: v for k, v in content["images"].items() if isinstance(v, list) and len(v) == 3}
    return {}


def _write_manifest(path: Path, images: dict[str, list]) -> None:
    # A cache folder that cannot be written costs time at the next start, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump({"version": _MANIFEST_VERSION, "images": images}, file)
        os.replace(file.name, path)
