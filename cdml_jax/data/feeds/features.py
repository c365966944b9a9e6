"""What a frozen network gives for every image: computed once, kept on disk with its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import math
import os
import tokenize
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from cdml_jax.data.feeds.feed import FeatureFeed, ImageFeed
from cdml_jax.errors import UserError
from cdml_jax.system import console, files
from cdml_jax.system.archives import intact, sealed
from cdml_jax.system.buckets import in_bucket

# What reading a file whose bytes have changed may end in; its header is parsed as Python.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    SyntaxError,
    tokenize.TokenError,
)

Front = Callable[[np.ndarray], np.ndarray]
"""Features (batch, …) of the global batch, from this process's images (rows, S, S, 3) uint8."""


def embedded(
    images: ImageFeed,
    front: Front,
    *,
    folder: epath.Path,
    made_by: dict[str, Any],
    views: int,
    anywhere: Callable[[bool], bool] = bool,
) -> FeatureFeed:
    """The feed of a split's features: from `folder` if they are there and whole, else computed and kept.

    Args:
      images: the split's images.
      front: what is frozen; every process calls it equally often.
      folder: where computed features are kept.
      made_by: everything that the features depend on; names the file.
      views: augmented views of each image, besides the evaluation view.
      anywhere: whether something holds in any of the processes: where one lacks the features all compute.

    Raises:
      UserError: the folder cannot be written.
    """
    key = hashlib.sha256(json.dumps({**made_by, "views": views}, sort_keys=True).encode()).hexdigest()
    path = folder / f"{key[:32]}.npy"
    kept = _read(path, (len(images), 1 + views))
    features = kept
    if anywhere(kept is None) or features is None:
        features = _computed(images, front, views)
        if images.shard[0] == 0 and kept is None:
            _write(path, features)
    return FeatureFeed(images.source, features, images.batch_size, images.shard)


def _computed(images: ImageFeed, front: Front, views: int) -> np.ndarray:
    """(images, 1 + views, …) float32."""
    count, batch_size = len(images), images.batch_size
    # Not from memory: what is kept there may be smaller, and each view is made once.
    images = dataclasses.replace(images, cache_bytes=0)
    steps = math.ceil(count / batch_size)
    order = (np.arange(steps * batch_size) % count).reshape(steps, batch_size)
    augmented = (images.training(order, seed=0, epoch=view) for view in range(1, 1 + views))
    features: np.ndarray | None = None
    with console.progress("Computing features", count * (1 + views)) as shown:
        for view, batches in enumerate(itertools.chain([images.evaluation()], augmented)):
            for first, batch in zip(range(0, count, batch_size), batches, strict=True):
                rows = front(batch["image"])[: count - first]  # the last batch is padded
                if features is None:
                    features = np.empty((count, 1 + views, *rows.shape[1:]), np.float32)
                features[first : first + len(rows), view] = rows
                shown.advance(len(rows))
    assert features is not None
    return features


def _note_of(path: epath.Path) -> epath.Path:
    return path.with_suffix(".json")


def _read(path: epath.Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Features that were kept; None, after a warning if they are damaged, where they must be computed."""
    if not path.exists():
        return None
    try:
        note = json.loads(_note_of(path).read_text())
        if not intact(note):
            raise ValueError("its note is not as it was written")
        features = _load(path)
        if features.shape[:2] != shape or features.dtype != np.float32:
            raise ValueError(f"{features.dtype} {features.shape}")
        stamp = _stamp(path)
        # To read all of a file that nobody touched would take longer than the rest of the start.
        if (stamp is None or stamp != note["stamp"]) and _digest(features) != note["features"]:
            raise ValueError("another digest")
    except _DAMAGE as error:
        wrong = f"is damaged ({error})"
        if isinstance(error, PermissionError):
            wrong = f"cannot be opened ({error.strerror})"
        console.warn(f"{path} {wrong}: these features are computed again")
        return None
    return features


def damage_of(path: epath.Path) -> tuple[epath.Path, str] | None:
    """Which file of features that were kept is not as it was written, after reading all of them, and how."""
    try:
        note = json.loads(_note_of(path).read_text())
        if not intact(note):
            return _note_of(path), "is not as it was written"
    except _DAMAGE as error:
        return _note_of(path), f"is damaged: {error}"
    try:
        return None if _digest(_load(path)) == note["features"] else (path, "is damaged: another digest")
    except _DAMAGE as error:
        return path, f"is damaged: {error}"


def _load(path: epath.Path) -> np.ndarray:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":  # else NumPy advises to trust what looks like a pickle
            raise ValueError("not an array of NumPy")
    if in_bucket(path):
        return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _write(path: epath.Path, features: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as temporary:
            with temporary.open("wb") as file:
                np.save(file, features, allow_pickle=False)
            # The note comes first: what a kill leaves between the two is then computed again.
            note = {"features": _digest(features), "stamp": _stamp(temporary)}
            files.write_json(_note_of(path), sealed(note))
    except OSError as error:
        raise UserError(f"features cannot be kept in {path.parent}: {error.strerror or error}") from error


def _digest(features: np.ndarray) -> str:
    """BLAKE2b of the values, an image at a time: a file that is mapped need not fit into memory."""
    digest = hashlib.blake2b(digest_size=16)
    for image in console.progressing(features, "Checking features", len(features)):
        digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()


def _stamp(path: epath.Path) -> list[int] | None:
    """Size and time of change, where they are known."""
    if in_bucket(path):
        return None
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
