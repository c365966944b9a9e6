"""What a frozen network gives for every image, computed once, and batches of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cdml_jax.data.batches import Batch, evaluation_batches, slice_of, training_batches
from cdml_jax.data.dataset import Source
from cdml_jax.data.transforms import Transform
from cdml_jax.errors import UserError

_VIEW = 0x76696577  # tells this use of a run's seed from every other


class FeatureSource:
    """A split as a frozen network sees it: one evaluation view of each image, then augmented ones.

    Attributes:
      features: (images, 1 + views, …) float32.
      labels: (images,) int32.
    """

    def __init__(self, source: Source, features: np.ndarray):
        self._source, self.features = source, features
        self.labels = np.asarray(source.labels, np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {"image": self.features[index, 0], "label": int(self.labels[index])}

    def name(self, index: int) -> str:
        """The image's name in the split."""
        return self._source.name(index)


def embed_split(
    source: Source,
    front: Callable[[np.ndarray], np.ndarray],
    *,
    folder: Path,
    made_by: dict[str, Any],
    views: int,
    batch_size: int,
    transform: Transform,
    num_threads: int,
    shard: tuple[int, int] = (0, 1),
) -> FeatureSource:
    """The split's features, from `folder` if they are there, else computed and kept there.

    Args:
      source: the images.
      front: features (batch, …) of the global batch, from this process's images (rows, S, S, 3) uint8.
      folder: where computed features are kept.
      made_by: everything that the features depend on; names the file.
      views: augmented views of each image, besides the evaluation view.
      batch_size: the global batch size.
      transform: gives the views.
      num_threads: threads that read, decode and augment.
      shard: (index, count) of this process.

    Raises:
      UserError: the folder cannot be written.
    """
    key = hashlib.sha256(json.dumps({**made_by, "views": views}, sort_keys=True).encode()).hexdigest()
    path = folder / f"{key[:32]}.npy"
    if path.is_file():
        return FeatureSource(source, np.load(path, mmap_mode="r", allow_pickle=False))
    features = _computed(source, front, views, batch_size, transform, num_threads, shard)
    if shard[0] == 0:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npy")
            np.save(partial, features, allow_pickle=False)
            partial.replace(path)
        except OSError as error:
            raise UserError(f"features cannot be kept in {folder}: {error.strerror or error}") from error
    return FeatureSource(source, features)


def _computed(
    source: Source,
    front: Callable[[np.ndarray], np.ndarray],
    views: int,
    batch_size: int,
    transform: Transform,
    num_threads: int,
    shard: tuple[int, int],
) -> np.ndarray:
    count = len(source)
    steps = -(-count // batch_size)
    order = (np.arange(steps * batch_size) % count).reshape(steps, batch_size)
    arguments: dict[str, Any] = {"transform": transform, "num_threads": num_threads, "shard": shard}
    features: np.ndarray | None = None
    with tqdm(total=(1 + views) * steps, desc="features", unit=" batches", disable=None, leave=False) as bar:
        for view in range(1 + views):
            batches = (
                training_batches(source, order, seed=0, epoch=view, **arguments)
                if view
                else evaluation_batches(source, batch_size=batch_size, **arguments)
            )
            for step, batch in enumerate(batches):
                rows = front(batch["image"])[: count - step * batch_size]
                if features is None:
                    features = np.empty((count, 1 + views, *rows.shape[1:]), np.float32)
                features[step * batch_size : step * batch_size + len(rows), view] = rows
                bar.update()
    assert features is not None
    return features


def training_feature_batches(
    source: FeatureSource,
    plan: np.ndarray,
    *,
    seed: int,
    epoch: int,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Generator[Batch, None, None]:
    """One epoch's batches in the plan's order, each image in one of its augmented views.

    The view is drawn from (seed, epoch, position in the plan); without augmented views it is the evaluation
    view. Arguments, keys and shards are those of `training_batches`.
    """
    first, last = slice_of(plan.shape[1], shard)
    views = source.features.shape[1] - 1
    key = np.random.SeedSequence((seed, epoch, _VIEW)).generate_state(2, np.uint64)
    drawn = np.random.Generator(np.random.Philox(key=key)).integers(0, max(views, 1), plan.shape)
    drawn = drawn + 1 if views else drawn
    for step in range(start_step, len(plan)):
        rows = plan[step, first:last].astype(np.int32)
        yield {
            "image": source.features[rows, drawn[step, first:last]],
            "label": source.labels[rows],
            "mask": np.ones(len(rows), bool),
            "index": rows,
        }


def evaluation_feature_batches(
    source: FeatureSource, *, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Generator[Batch, None, None]:
    """Every image once in its evaluation view, in order; padded as `evaluation_batches` pads."""
    first, last = slice_of(batch_size, shard)
    for start in range(0, len(source), batch_size):
        rows = np.arange(start + first, start + last, dtype=np.int32)
        mask = rows < len(source)
        inside = np.where(mask, rows, 0)
        wide_mask = mask.reshape(-1, *[1] * (source.features.ndim - 2))
        yield {
            "image": np.where(wide_mask, source.features[inside, 0], np.float32(0)),
            "label": np.where(mask, source.labels[inside], np.int32(0)),
            "mask": mask,
            "index": np.where(mask, rows, np.int32(-1)),
        }
