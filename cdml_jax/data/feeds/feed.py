"""A feed gives a split's batches: of its images, or of what a frozen network made of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from cdml_jax.data.dataset import Content, Source, content_of
from cdml_jax.data.dividing.derived import Joined, Subset
from cdml_jax.data.feeds.batches import Batch, cached, evaluation_batches, slice_of, training_batches
from cdml_jax.data.images.transforms import Transform

_VIEW = 0x76696577  # tells this use of a run's seed from every other


class ImageSpec(NamedTuple):
    """Shape and dtype of one image of a batch, or of what stands for it."""

    shape: tuple[int, ...]
    dtype: Any


class Feed(Protocol):
    """Batches of one split.

    A batch is a dictionary: "image" (rows, …) as `spec` says, "label" int32, "mask" bool and "index" int32,
    each (rows,), with rows = batch_size / processes: the slice of the global batch that this process reads.
    """

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32."""
        ...

    @property
    def spec(self) -> ImageSpec:
        """What "image" holds for one row of a batch."""
        ...

    @property
    def prepares_images(self) -> bool:
        """Whether threads of this process have to prepare images while the devices work."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether what batches are made of lies decoded in memory."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a message calls the image."""
        ...

    def content(self, index: int) -> Content:
        """What is known of the image's content."""
        ...

    def training(
        self, order: np.ndarray, *, seed: int, epoch: int, start_step: int = 0
    ) -> Generator[Batch, None, None]:
        """An epoch's batches, augmented, in the order planned.

        Args:
          order: (steps, batch_size) indices into the split; batch_size is the global one.
          seed: the run's seed.
          epoch: the epoch's number.
          start_step: the first step to give; the others are as they would be behind those before.

        Returns:
          An iterator; closing it ends its threads.
        """
        ...

    def evaluation(self) -> Generator[Batch, None, None]:
        """Every image once, in order, not augmented; the last batch is padded ("mask" false, "index" −1)."""
        ...

    def select(self, indices: np.ndarray) -> Self:
        """The feed of some of the images, in a given order."""
        ...

    def joined(self, other: Self) -> Self:
        """The feed of these images and then the other's."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFeed:
    """Batches of images, read, decoded and augmented while the devices work.

    Attributes:
      source: the images.
      transform: the augmentation, and the view that is evaluated.
      batch_size: the global batch size of an evaluation.
      num_threads: threads that read, decode and augment; 0 works in the caller's thread.
      cache_bytes: images are kept decoded in memory, from the first batch on, if they fit into so much.
      shard: (index, count): which of how many equal slices of every batch this process reads.
    """

    source: Source
    transform: Transform
    batch_size: int
    num_threads: int = 2
    cache_bytes: int = 0
    shard: tuple[int, int] = (0, 1)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32."""
        return self.source.labels

    @property
    def spec(self) -> ImageSpec:
        """uint8 (image_size, image_size, 3)."""
        side = self.transform.image_size
        return ImageSpec((side, side, 3), np.dtype(np.uint8))

    @property
    def prepares_images(self) -> bool:
        """They are read, decoded and augmented."""
        return True

    @property
    def in_memory(self) -> bool:
        """Whether the images fit into `cache_bytes`."""
        return self._kept is not self.source

    @functools.cached_property
    def _kept(self) -> Source:
        side = self.transform.kept_side
        return cached(self.source, self.cache_bytes, resize=side, num_threads=self.num_threads)

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """What a message calls the image."""
        return self.source.name(index)

    def content(self, index: int) -> Content:
        """What is known of the image's content."""
        return content_of(self.source, index)

    def training(
        self, order: np.ndarray, *, seed: int, epoch: int, start_step: int = 0
    ) -> Generator[Batch, None, None]:
        """As `training_batches` gives them."""
        return training_batches(
            self._kept,
            order,
            seed=seed,
            epoch=epoch,
            start_step=start_step,
            transform=self.transform,
            num_threads=self.num_threads,
            shard=self.shard,
        )

    def evaluation(self) -> Generator[Batch, None, None]:
        """As `evaluation_batches` gives them."""
        return evaluation_batches(
            self._kept,
            batch_size=self.batch_size,
            transform=self.transform,
            num_threads=self.num_threads,
            shard=self.shard,
        )

    def select(self, indices: np.ndarray) -> ImageFeed:
        """The feed of some of the images, in a given order."""
        return dataclasses.replace(self, source=Subset(self.source, indices))

    def joined(self, other: ImageFeed) -> ImageFeed:
        """The feed of these images and then the other's, read as these are."""
        return dataclasses.replace(self, source=Joined([self.source, other.source]))


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureFeed:
    """Batches of what a frozen network gives for images, each in one of the views that were computed.

    Attributes:
      source: the images, for their labels and names.
      features: (images, 1 + views, …) float32: of each image the evaluation view, then augmented ones.
      batch_size: the global batch size of an evaluation.
      shard: (index, count): which of how many equal slices of every batch this process takes.
    """

    source: Source
    features: np.ndarray
    batch_size: int
    shard: tuple[int, int] = (0, 1)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32."""
        return self.source.labels

    @property
    def spec(self) -> ImageSpec:
        """Those of the features of one view."""
        return ImageSpec(self.features.shape[2:], self.features.dtype)

    @property
    def prepares_images(self) -> bool:
        """There is nothing to read or decode."""
        return False

    @property
    def in_memory(self) -> bool:
        """No image needs decoding."""
        return True

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """What a message calls the image."""
        return self.source.name(index)

    def content(self, index: int) -> Content:
        """What is known of the image's content."""
        return content_of(self.source, index)

    def training(
        self, order: np.ndarray, *, seed: int, epoch: int, start_step: int = 0
    ) -> Generator[Batch, None, None]:
        """An epoch's batches in the order planned, each image in one of its augmented views.

        The view is drawn from (seed, epoch, position in the plan); without augmented views it is the
        evaluation view.
        """
        first, last = slice_of(order.shape[1], self.shard)
        views = self.features.shape[1] - 1
        key = np.random.SeedSequence((seed, epoch, _VIEW)).generate_state(2, np.uint64)
        drawn = np.random.Generator(np.random.Philox(key=key)).integers(0, max(views, 1), order.shape)
        drawn = drawn + 1 if views else drawn  # view 0 is the evaluation view
        for step in range(start_step, len(order)):
            rows = order[step, first:last].astype(np.int32)
            yield {
                "image": self.features[rows, drawn[step, first:last]],
                "label": self.labels[rows],
                "mask": np.ones(len(rows), bool),
                "index": rows,
            }

    def evaluation(self) -> Generator[Batch, None, None]:
        """Every image once in its evaluation view, in order; padded as `evaluation_batches` pads."""
        first, last = slice_of(self.batch_size, self.shard)
        for start in range(0, len(self), self.batch_size):
            rows = np.arange(start + first, start + last, dtype=np.int32)
            mask = rows < len(self)
            inside = np.where(mask, rows, 0)
            wide_mask = mask.reshape(-1, *[1] * (self.features.ndim - 2))
            yield {
                "image": np.where(wide_mask, self.features[inside, 0], np.float32(0)),
                "label": np.where(mask, self.labels[inside], np.int32(0)),
                "mask": mask,
                "index": np.where(mask, rows, np.int32(-1)),
            }

    def select(self, indices: np.ndarray) -> FeatureFeed:
        """The feed of some of the images, in a given order."""
        return dataclasses.replace(self, source=Subset(self.source, indices), features=self.features[indices])

    def joined(self, other: FeatureFeed) -> FeatureFeed:
        """The feed of these images and then the other's, with as many views as both have."""
        views = min(self.features.shape[1], other.features.shape[1])
        features = np.concatenate([self.features[:, :views], other.features[:, :views]])
        return dataclasses.replace(self, source=Joined([self.source, other.source]), features=features)


def image_feeds(splits: Mapping[str, Source], **loading: Any) -> dict[str, ImageFeed]:
    """A feed for each split; `loading` are the other attributes of `ImageFeed`, the same for all."""
    return {split: ImageFeed(source, **loading) for split, source in splits.items()}
