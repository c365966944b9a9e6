"""Settings that a configuration leaves to the number of images and the machine, as `own_images` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import cv2
import jax
import numpy as np
from flax import nnx

from cdml_jax.configuration import keys
from cdml_jax.configuration.checks import check, left_open
from cdml_jax.configuration.settings import Settings, changed
from cdml_jax.data.dataset import Dataset, Source
from cdml_jax.data.images.decoding import decode
from cdml_jax.models import Network, build, spec_of
from cdml_jax.system import console

S = TypeVar("S", bound=Settings)

USUAL_BATCH = 32  # that a processor is divided for, before the images are known
_SAMPLE = 32  # images that are looked at
_UNEVEN = 10  # times as many images in a class as in another, from which a line says so


def as_begun(settings: S, begun: Mapping[str, Any] | None) -> S:
    """The settings with what was chosen for them when their run began, perhaps on another machine.

    Args:
      settings: some keys may be left open.
      begun: the plain settings of the run that a folder holds; None where it holds none.
    """
    there = keys.flat(begun) if begun else {}
    found = {key: there[key] for key in left_open(settings) if key in there}
    return changed(settings, found) if found else settings  # type: ignore[return-value]


def fitted(settings: S, dataset: Dataset, devices: Sequence[jax.Device]) -> S:
    """The settings with all keys chosen that were left open; a line says what was chosen, and for what.

    A network that is fine-tuned needs some thousands of augmented views: the fewer the images, the more
    epochs. A processor trains the later half of the blocks alone, on small images; a GPU or TPU trains all,
    on larger ones.

    Args:
      settings: of a run.
      dataset: its images, by which the sizes are chosen.
      devices: those that train, all of one kind.

    Raises:
      UserError: what was chosen and what was given do not go together.
    """
    left = left_open(settings)
    if not left:
        return settings
    number, kind = len(dataset.splits["train"]), devices[0].platform
    side = _short_side(dataset.splits["train"])
    chosen = _sizes(settings, number, dataset.num_classes, side, len(devices), kind)
    network = _network(settings, dataset.num_classes)
    chosen["image.image_size"] = max(1, chosen["image.image_size"] // network.patch) * network.patch
    frozen = kind == "cpu" and settings.model.weights and not settings.test_time_flip
    chosen["model.frozen"] = str(len(network.blocks) // 2) if frozen else ""
    found = {key: chosen[key] for key in left}
    values = " ".join(f"{key}={keys.text_of(value)}" for key, value in found.items())
    console.say(f"Chosen for {number:,} training images on {len(devices)} {kind} device(s): {values}")
    whole: S = changed(settings, found)  # type: ignore[assignment]
    check(whole)
    return whole


def note_images(settings: Settings, dataset: Dataset) -> None:
    """Print what a person should know of images: drawings, classes that are uneven or not validated."""
    train = dataset.splits["train"]
    if settings.image.flip and all(map(_is_drawing, _sample(train))):
        console.warn(
            "the images look like drawings in black and white, and image.flip=True mirrors them: where a "
            "mirror image is of another class, as of letters, set --config.image.flip=False"
        )
    names = dataset.classes.names
    validation = dataset.splits.get("validation")
    if validation is None or not len(validation):
        console.say("There are no validation images: --folds=5 measures on images held out, after each other")
    else:
        lack = np.flatnonzero(np.bincount(validation.labels, minlength=dataset.num_classes) == 0)
        if lack.size:
            such = f"{lack.size:,}, such as {console.escaped(names[lack[0]])}"
            console.say(
                f"Classes without validation images: {such}; --folds=5 holds each of their images out once"
            )
    sizes = np.bincount(train.labels, minlength=dataset.num_classes)
    few, many = int(sizes.argmin()), int(sizes.argmax())
    if sizes[many] >= _UNEVEN * max(sizes[few], 1):
        console.say(
            f"Classes are uneven: {sizes[many]:,} training images of {console.escaped(names[many])}, "
            f"{sizes[few]:,} of {console.escaped(names[few])}. Top-1 accuracy is then mostly that of large "
            "classes; the mean class error, which cdml evaluate prints too, counts all classes alike"
        )


def _sizes(
    settings: Settings, number: int, classes: int, side: int, devices: int, kind: str
) -> dict[str, Any]:
    """What suits so many images with so long a short side."""
    slow = kind == "cpu"
    # Augmented views that a network is fine-tuned by: more for more classes.
    views, a_class, least, most = (6_000, 230, 5, 20) if slow else (60_000, 600, 10, 60)
    views = max(views, a_class * classes)
    size = 144 if slow else 224
    if side < size / 2:
        size = max(64, -(-2 * side // 16) * 16)  # enlarged more than twice, an image only costs more
    batch = 64 if not slow or number >= 4_000 else USUAL_BATCH
    rows = devices * settings.accumulation
    batch = max(rows, min(batch, number) // rows * rows)
    epochs = settings.epochs if settings.epochs > 0 else max(least, min(most, round(views / number)))
    return {
        "image.image_size": min(size, settings.image.resize or size),
        "batch_size": batch,
        "epochs": epochs,
        "warmup_epochs": epochs // 5,
        "evaluate_every": max(1, epochs // 10),
    }


def _network(settings: Settings, num_classes: int) -> Network:
    """The network in shapes alone."""
    spec = spec_of(settings.model, num_classes)
    return nnx.eval_shape(lambda: build(settings.model.name, spec, rngs=nnx.Rngs(0)))


def _sample(source: Source) -> Iterator[np.ndarray]:
    """Some images, evenly spread over the source, uint8 (height, width, 3)."""
    places = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int)).tolist()
    for image in map(source.image, places):
        yield decode(image) if isinstance(image, bytes) else np.asarray(image)


def _short_side(source: Source) -> int:
    """The median short side of the images, in pixels."""
    return int(np.median([min(image.shape[:2]) for image in _sample(source)]))


def _is_drawing(image: np.ndarray) -> bool:
    """Whether nearly all pixels are grey, and nearly black or nearly white."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(np.int16)
    grey = np.ptp(small, axis=2) <= 16
    extreme = (small.mean(axis=2) < 48) | (small.mean(axis=2) > 208)
    return bool(grey.mean() > 0.98 and extreme.mean() > 0.8)
