"""A program of labels alone: what is compiled reads no image, so none need be there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from cdml_jax.configuration import places
from cdml_jax.configuration.checks import left_open
from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.fitting import fitted
from cdml_jax.configuration.settings import Settings, changed
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.data.birds.sets import CONFIGS
from cdml_jax.data.feeds.feed import ImageSpec
from cdml_jax.data.published.catalogue import SETS
from cdml_jax.errors import UserError
from cdml_jax.methods import Method
from cdml_jax.models import build, spec_of
from cdml_jax.models.pixels import normalize_images
from cdml_jax.system.files import path_of
from cdml_jax.training.frozen import cut_of
from cdml_jax.training.program import Program

_BIRDS = "synthetic_birds/"
_FAMILY = 4  # classes of a family, where nothing is known of the families


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a data set.

    Attributes:
      classes: that are told apart.
      images: training images.
      whence: how that is known, in a few words.
      dataset: where the images are there.
    """

    classes: int
    images: int
    whence: str
    dataset: Dataset | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Unread:
    """As much of a feed as a program asks for before its first batch."""

    labels: np.ndarray
    spec: ImageSpec

    def __len__(self) -> int:
        return len(self.labels)


def sizes_of(config: Settings, classes: int | None = None, images: int | None = None) -> Sizes:
    """Numbers of classes and training images: as given, as published, or of the images that are there.

    Args:
      config: the settings, whose `source` names the images.
      classes, images: those that a person gives; None for what is known.

    Raises:
      UserError: nothing is known of the source, or a number is below 1.
    """
    for flag, number in (("--classes", classes), ("--images", images)):
        if number is not None and number < 1:
            raise UserError(f"{flag}: must be at least 1, not {number}")
    if classes is not None and images is not None:
        return Sizes(classes, images, "as given")
    known = _known(config) or _read(config)
    given = "" if classes is None and images is None else ", and as given"
    return dataclasses.replace(
        known,
        classes=classes or known.classes,
        images=images or known.images,
        whence=known.whence + given,
        dataset=None if given else known.dataset,
    )


def _known(config: Settings) -> Sizes | None:
    """What is known of a set without its images."""
    kind, _, folder = config.source.partition(":")
    birds = config.source.removeprefix("tfds:")
    if birds.startswith(_BIRDS) and birds.removeprefix(_BIRDS) in CONFIGS:
        drawn = CONFIGS[birds.removeprefix(_BIRDS)]
        classes = sum(drawn.family_sizes)
        images = classes * drawn.per_species["train"]
        whence = "as drawn"
    elif kind in SETS and not (folder and path_of(folder).exists()):
        published = SETS[kind]
        classes, images = published.num_classes, published.counts["train"]
        whence = "as published"
    else:
        return None
    data = config.data
    taken = data.validation_fraction + data.test_fraction
    left = (1 - taken) * (1 - data.holdout_fraction)
    return Sizes(classes, round(images * left), whence + (", less the shares held out" if left < 1 else ""))


def _read(config: Settings) -> Sizes:
    place = places.folder_of(config.source)
    if place and not path_of(place).exists():
        raise UserError(
            f"source: {config.source}: there is no such folder; give --classes=N --images=N in its place"
        )
    dataset = load_dataset(changed(config, {"data.check": False}))
    return Sizes(dataset.num_classes, len(dataset.splits["train"]), "as read", dataset)


def settled(config: Settings, sizes: Sizes, devices: Sequence[Any]) -> Settings:
    """The settings with what they leave to the images and the devices, as a run would choose it.

    Raises:
      UserError: they leave something open, and the images are not there.
    """
    left = left_open(config)
    if not left:
        return config
    if sizes.dataset is None:
        flags = " ".join(f"--config.{key}=..." for key in left)
        raise UserError(
            f"the configuration leaves {', '.join(left)} to the images, which are not there; set {flags}"
        )
    return fitted(config, sizes.dataset, devices)


def program_of(config: Settings, method: Method, sizes: Sizes, devices: Sequence[Any]) -> Program[Settings]:
    """The program that `cdml train` would make for so many classes and images, on these devices."""
    number = sizes.classes
    families = tuple(k // _FAMILY for k in range(number))
    named = tuple(f"family {k}" for k in range(families[-1] + 1))
    classes = Classes(tuple(f"class {k}" for k in range(number)), families, named)
    if sizes.dataset is not None:
        classes = sizes.dataset.classes
    labels = np.arange(sizes.images, dtype=np.int32) % number
    pixels = np.broadcast_to(np.uint8(0), (sizes.images, 1, 1, 3))
    feed: Any = _Unread(labels, _spec(config, number))
    return Program(
        changed(config, {"model.weights": ""}),
        Dataset(config.source, classes, {"train": ArraySource(pixels, labels)}),
        devices,
        feeds={"train": feed},
        structure=method.structure,
    )


def _spec(config: Settings, classes: int) -> ImageSpec:
    """What stands for an image in a batch: its pixels, or what a frozen front makes of them."""
    side = config.image.image_size
    pixels = ImageSpec((side, side, 3), np.dtype(np.uint8))

    def plain(*, rngs: nnx.Rngs) -> Any:
        return build(config.model.name, spec_of(config.model, classes), rngs=rngs)

    cut, _ = cut_of(config.model.frozen, plain)
    if cut is None:
        return pixels

    def front(images: jax.Array) -> jax.Array:
        return plain(rngs=nnx.Rngs(0)).front(normalize_images(images), cut, train=False)

    found = jax.eval_shape(front, jax.ShapeDtypeStruct((1, *pixels.shape), pixels.dtype))
    return ImageSpec(found.shape[1:], np.dtype(np.float32))
