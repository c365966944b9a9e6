"""Batches in a given order, read, decoded, augmented and prefetched in parallel by Grain."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import cv2
import grain
import numpy as np

from cdml_jax.data.dataset import Source
from cdml_jax.data.images import transforms
from cdml_jax.data.images.decoding import decode
from cdml_jax.errors import UserError
from cdml_jax.system import console

Batch = dict[str, np.ndarray]

_AUGMENTATION = 0x61756775  # tells this use of a run's seed from every other


def training_batches(
    source: Source,
    plan: np.ndarray,
    *,
    seed: int,
    epoch: int,
    transform: transforms.Transform,
    start_step: int = 0,
    num_threads: int = 2,
    shard: tuple[int, int] = (0, 1),
) -> Generator[Batch, None, None]:
    """One epoch's batches, augmented, in the plan's order.

    The augmentation of the image at `plan[step, slot]` is drawn from (seed, epoch, step x batch_size + slot):
    the batches are the same whatever `num_threads` is, and those from `start_step` on are the ones that an
    iterator begun at 0 would give. The shards of a batch are its contiguous slices.

    Args:
      source: the training images.
      plan: (steps, batch_size) indices into `source`; batch_size is the global one.
      seed: the run's seed, not negative.
      epoch: the epoch's number, not negative.
      transform: the augmentation.
      start_step: the first step to give.
      num_threads: threads that read, decode and augment; 0 works in the caller's thread.
      shard: (index, count): which of how many equal slices of every batch to give.

    Returns:
      An iterator of dictionaries: "image" uint8 (batch_size / count, S, S, 3), "label" int32, "mask" bool
      (all true) and "index" int32, each (batch_size / count,). Closing it ends its threads.

    Raises:
      UserError: the batch cannot be divided by the number of shards; or, from the iterator, an image cannot
        be read (the message names it).
    """
    plan = np.asarray(plan)
    if plan.ndim != 2 or not np.issubdtype(plan.dtype, np.integer):
        raise ValueError(f"plan must be (steps, batch_size) integers, not {plan.dtype} {plan.shape}")
    steps, batch_size = plan.shape
    first, last = slice_of(batch_size, shard)
    key = np.random.SeedSequence((seed, epoch, _AUGMENTATION)).generate_state(2, np.uint64)
    size = transform.image_size

    def batch(step: int) -> Batch:
        rows = plan[step, first:last].astype(np.int32)
        images = np.empty((len(rows), size, size, 3), np.uint8)
        for slot, index in enumerate(rows.tolist(), start=first):
            # The counter's last word moves by 2^192 draws: streams of different positions never meet.
            bits = np.random.Philox(key=key, counter=[0, 0, 0, step * batch_size + slot])
            rng = np.random.Generator(bits)
            images[slot - first] = transforms.augment(read_image(source, index), rng, transform)
        return {
            "image": images,
            "label": np.asarray(source.labels, np.int32)[rows],
            "mask": np.ones(len(rows), bool),
            "index": rows,
        }

    return _prefetched(batch, start_step, steps, num_threads)


def evaluation_batches(
    source: Source,
    *,
    batch_size: int,
    transform: transforms.Transform,
    num_threads: int = 2,
    shard: tuple[int, int] = (0, 1),
) -> Generator[Batch, None, None]:
    """Every image once, in order, as its evaluation view; the last batch is padded.

    Args:
      source: the images.
      batch_size: the global batch size.
      transform: gives the size of the view.
      num_threads: threads that read and decode; 0 works in the caller's thread.
      shard: (index, count): which of how many equal slices of every batch to give. All shards give the same
        number of batches.

    Returns:
      An iterator of dictionaries as `training_batches` gives them. Padded rows have "mask" false, a black
      image, label 0 and index −1.

    Raises:
      UserError: the batch cannot be divided by the number of shards; or, from the iterator, an image cannot
        be read (the message names it).
    """
    first, last = slice_of(batch_size, shard)
    count, size = len(source), transform.image_size

    def batch(step: int) -> Batch:
        rows = np.arange(step * batch_size + first, step * batch_size + last, dtype=np.int32)
        mask = rows < count
        images = np.zeros((len(rows), size, size, 3), np.uint8)
        labels = np.zeros(len(rows), np.int32)
        labels[mask] = np.asarray(source.labels)[rows[mask]]
        for row, index in enumerate(rows[mask].tolist()):
            images[row] = transforms.evaluation_view(read_image(source, index), transform)
        return {"image": images, "label": labels, "mask": mask, "index": np.where(mask, rows, np.int32(-1))}

    return _prefetched(batch, 0, math.ceil(count / batch_size), num_threads)


def read_image(source: Source, index: int) -> np.ndarray:
    """One decoded image.

    Args:
      source: where it is.
      index: which one.

    Returns:
      uint8 (height, width, 3), RGB.

    Raises:
      UserError: it cannot be read or decoded; the message begins with its name.
    """
    try:
        image = source.image(index)
        return decode(image) if isinstance(image, bytes) else image
    except Exception as error:
        raise UserError(f"{source.name(index)}: {error}") from error


class CachedSource:
    """A source whose images are decoded once and kept in memory as uint8.

    Args:
      source: the images to keep.
      resize: short side in pixels to which larger images are reduced before they are kept; 0 for no change.
      num_threads: threads that decode.
    """

    def __init__(self, source: Source, resize: int = 0, *, num_threads: int = 2):
        cv2.setNumThreads(1)
        self._source = source
        self.labels = np.asarray(source.labels, np.int32)
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            images = pool.map(lambda i: _reduced(source, i, resize), range(len(source)))
            self._images = list(console.progressing(images, "Decoding images into memory", len(source)))

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> np.ndarray:
        """The image as it is kept."""
        return self._images[index]

    def name(self, index: int) -> str:
        """What a message calls the image."""
        return self._source.name(index)


def cached(source: Source, max_bytes: int, *, resize: int = 0, num_threads: int = 2) -> Source:
    """The source with its images decoded in memory, if they fit; else the source as it is.

    Args:
      source: the images.
      max_bytes: the most memory to use, judged by up to 64 images spread over the source.
      resize: as for `CachedSource`.
      num_threads: threads that decode.

    Returns:
      A `CachedSource`, or `source` itself.
    """
    if len(source) == 0 or max_bytes <= 0:
        return source
    sample = np.unique(np.linspace(0, len(source) - 1, 64).astype(int)).tolist()
    mean = np.mean([_reduced(source, i, resize).nbytes for i in sample])
    return (
        CachedSource(source, resize, num_threads=num_threads) if mean * len(source) <= max_bytes else source
    )


def _reduced(source: Source, index: int, resize: int) -> np.ndarray:
    image = read_image(source, index)
    return transforms.resize_short_side(image, resize) if resize else image


def slice_of(batch_size: int, shard: tuple[int, int]) -> tuple[int, int]:
    """First row, and the one after the last, of a shard's slice of every batch.

    >>> slice_of(12, (1, 3))
    (4, 8)
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count} does not exist")
    if batch_size < 1 or batch_size % count:
        raise UserError(f"batch_size ({batch_size}) must be a positive multiple of the {count} processes")
    return index * batch_size // count, (index + 1) * batch_size // count


def _prefetched(
    make: Callable[[int], Batch], start: int, stop: int, num_threads: int
) -> Generator[Batch, None, None]:
    # A batch is one Grain element: at 64 pixels an element costs Grain as much as the image's augmentation.
    cv2.setNumThreads(1)  # Grain's threads are the parallelism; OpenCV's own would compete with them
    dataset = grain.MapDataset.range(start, stop).map(make)
    ahead = num_threads + 2 if num_threads else 0
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=ahead)

    def batches() -> Generator[Batch, None, None]:
        iterator = iter(dataset.to_iter_dataset(options))
        try:
            yield from iterator
        finally:
            iterator.close()

    return batches()
