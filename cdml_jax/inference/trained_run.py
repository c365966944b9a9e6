"""A trained run, used: logits, embeddings and named classes of images, where its training images are not."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from cdml_jax.configuration.checks import check_dtype
from cdml_jax.configuration.settings import Settings, from_plain
from cdml_jax.data.classes import Classes
from cdml_jax.data.images.transforms import evaluation_view
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.inference import photographs as batches
from cdml_jax.inference.photographs import Note, Photograph, Rows, each, in_parts, placed_parts, seen
from cdml_jax.models import build, spec_of
from cdml_jax.runs import calibration, class_names, workdir
from cdml_jax.runs.claims import part_of
from cdml_jax.runs.trained_weights import Weights, restore_weights
from cdml_jax.system.files import path_of
from cdml_jax.system.trees import digest_of_arrays
from cdml_jax.training.evaluation import evaluated
from cdml_jax.training.state import split_model


class Outputs(NamedTuple):
    """What the network says, on the host: logits (…, classes) and embeddings (…, size)."""

    logits: np.ndarray
    embeddings: np.ndarray


class Guess(NamedTuple):
    """One of the classes that an image may be of.

    Attributes:
      class_name: what it is called.
      probability: of it, by the network.
      taken_for: the classes that images of this one were called while the network trained, and how often.
    """

    class_name: str
    probability: float
    taken_for: tuple[tuple[str, float], ...]


def load(
    folder: str | os.PathLike, *, devices: Sequence[jax.Device] | None = None, best: bool = False
) -> TrainedRun:
    """A trained run of a workdir, by its newest whole checkpoint.

    Args:
      folder: the workdir of `cdml train`, or of one run of `cdml reproduce`, its `runs/METHOD-seedN`.
        The images that it was trained on need not be there.
      devices: those that share the work; None for all of this process.
      best: by the best epoch by validation in place of the last, where it was kept.

    Raises:
      UserError: it holds no trained run, or no checkpoint that can be read.
    """
    folder = path_of(folder)
    stored = workdir.read_trained(folder)
    config = from_plain(stored["config"])
    check_dtype(config)
    devices = mesh_lib.devices_here(local=True) if devices is None else devices
    name, names = class_names.read(folder)
    spec = spec_of(config.model, names.number)
    part: Any = {"part": part_of(stored), "families": names.families}
    network = nnx.eval_shape(lambda: build(config.model.name, spec, rngs=nnx.Rngs(0), **part))
    graph, *shapes = split_model(network)
    weights = restore_weights(folder, *shapes, best=best)
    calibrated = calibration.read(folder, weights.epoch, best=best)
    temperature = calibrated.temperature if calibrated else 1.0
    return TrainedRun(config, name, names, graph, weights, devices, temperature=temperature)


class TrainedRun:
    """Calling it on images as the network takes them gives their logits and embeddings.

    Attributes:
      config: of the run.
      dataset: the name of the data set that it was trained on.
      classes: names of the classes, in the order of the logits, and of their families.
      transform: how a photograph becomes what the network takes.
      image_size: side in pixels of what the network takes.
      weights: on the host, with the confusion counts of the training.
      temperature: by which `guesses` divides logits: what `cdml calibrate` stored, else 1.
    """

    def __init__(
        self,
        config: Settings,
        dataset: str,
        names: Classes,
        graph: nnx.GraphDef,
        weights: Weights,
        devices: Sequence[jax.Device] | None = None,
        *,
        temperature: float = 1.0,
    ):
        self.temperature = temperature
        self.config, self.dataset, self.classes, self.weights = config, dataset, names, weights
        self.transform = config.image
        self.image_size: int = config.image.image_size
        devices = mesh_lib.devices_here(local=True) if devices is None else devices
        self._mesh = mesh_lib.make_mesh(len(devices), devices=devices)
        self._placed = mesh_lib.put_replicated(self._mesh, (weights.parameters, weights.batch_statistics))
        self._graph = graph
        self._functions: dict[Callable[..., Any], Callable[..., Any]] = {}
        self.apply = functools.partial(_apply, graph=graph, flip=config.test_time_flip)
        self._apply = jax.jit(self.apply)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.classes.names

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the network's weights: equal ones give equal embeddings of equal images."""
        return digest_of_arrays((self.weights.parameters, self.weights.batch_statistics))

    def __call__(self, images: np.ndarray) -> Outputs:
        """Logits and embeddings of images as the network takes them; `view` makes one of a photograph.

        A batch of any size is computed in parts of at most 64 a device, filled up to a power of two: few
        sizes are compiled.

        Args:
          images: uint8 (batch, image_size, image_size, 3), RGB.

        Returns:
          `logits` (batch, classes) and `embeddings` (batch, size), float32, the latter of length 1.

        Raises:
          ValueError: another shape or dtype.
        """
        images, side = np.asarray(images), self.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise ValueError(
                f"images must be uint8 (batch, {side}, {side}, 3), not {images.dtype} {images.shape}; "
                "run.view(photograph) makes one of a photograph"
            )
        return Outputs(*in_parts(images, self._mesh, lambda part: self._apply(*self._placed, part)))

    def computing(self, function: Callable[..., tuple[jax.Array, ...]]) -> Callable[..., Rows]:
        """Another function of the network and of images uint8 (batch, side, side, 3), compiled.

        Args:
          function: of the network, images of any side and more arrays; gives arrays with a row an image.

        Returns:
          The same of images and more arrays on the host, in parts as calling the run takes them.
        """
        compiled = self._compiled(function)
        return lambda images, *more: in_parts(
            images, self._mesh, lambda part: compiled(*self._placed, part, *more)
        )

    def summing(self, function: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        """As `computing`, of a function of the network, images, a mask of those that count, and more arrays.

        Returns:
          What it gives for each part of the images, one after another.
        """
        compiled = self._compiled(function)
        return lambda images, *more: (
            compiled(*self._placed, part["image"], part["mask"], *more)
            for _, part in placed_parts(images, self._mesh)
        )

    def shapes_of(self, function: Callable[..., Any], *arrays: jax.ShapeDtypeStruct) -> Any:
        """What a function of the network and of arrays of such shapes would give; nothing is computed."""
        return jax.eval_shape(self._compiled(function), *self._placed, *arrays)

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function under jit, the same for every call: it is compiled once for each shape."""
        if function not in self._functions:
            self._functions[function] = jax.jit(
                lambda p, s, *arrays: function(nnx.merge(self._graph, p, s), *arrays)
            )
        return self._functions[function]

    @property
    def number_of_devices(self) -> int:
        """How many share the work."""
        return self._mesh.size

    @property
    def batch_size(self) -> int:
        """Images of which all devices together are given the largest batch."""
        return batches.BATCH * self._mesh.size

    def view(self, photograph: Photograph) -> np.ndarray:
        """What the network sees of a photograph: the centre square of its scaled version.

        Args:
          photograph: a file, a file's bytes, or a uint8 array (height, width, 3), RGB, of any size.

        Returns:
          uint8 (image_size, image_size, 3).

        Raises:
          UserError: it cannot be read; the message begins with the file's name.
        """
        return seen(photograph, self._view).view

    def _view(self, image: np.ndarray) -> np.ndarray:
        return evaluation_view(image, self.transform)

    def each(
        self, photographs: Iterable[Photograph], *, note: Note | None = None
    ) -> Iterator[Outputs | UserError]:
        """Logits (classes,) and embedding (size,) of each photograph in turn, or why it cannot be read.

        Photographs are decoded by threads, a batch ahead, and never all held.

        Args:
          photographs: as for `view`.
          note: as `photographs.each` takes it.
        """
        for found in each(photographs, self._view, self, size=self.batch_size, note=note):
            yield found if isinstance(found, UserError) else Outputs(*found.outputs)

    def embed(self, photographs: Iterable[Photograph]) -> Outputs:
        """Logits and embeddings of photographs of any size.

        Raises:
          UserError: one cannot be read.
        """
        rows: list[Outputs] = []
        for outputs in self.each(photographs):
            if isinstance(outputs, UserError):
                raise outputs
            rows.append(outputs)
        side = self.image_size
        return Outputs(*map(np.stack, zip(*rows))) if rows else self(np.zeros((0, side, side, 3), np.uint8))

    def predict(self, photographs: Iterable[Photograph], *, top: int = 5) -> list[list[Guess]]:
        """The likeliest classes of each photograph, the likeliest first.

        Raises:
          UserError: one cannot be read.
        """
        return [self.guesses(logits, top=top) for logits in self.embed(photographs).logits]

    def guesses(self, logits: ArrayLike, *, top: int = 5) -> list[Guess]:
        """The classes of the largest of an image's logits (classes,), the likeliest first."""
        logits = np.asarray(logits, np.float64) / self.temperature
        shifted = np.exp(logits - logits.max())
        probabilities = shifted / shifted.sum()
        likeliest = np.argsort(-probabilities, kind="stable")[:top]
        return [
            Guess(self.class_names[index], float(probabilities[index]), self.taken_for(int(index)))
            for index in likeliest
        ]

    def taken_for(self, index: int, *, most: int = 3, rate: float = 0.005) -> tuple[tuple[str, float], ...]:
        """The classes that images of class `index` were called while training, and their shares.

        counts[i, j] / Σ_k counts[i, k] of the kept counts, the most frequent first: at most `most`, none of a
        share below `rate`.
        """
        others, shares = self.weights.counts.wrong_answers(index)
        return tuple(
            (self.class_names[others[place]], float(shares[place]))
            for place in np.argsort(-shares, kind="stable")[:most]
            if shares[place] >= rate
        )


def _apply(
    parameters: Any, statistics: Any, images: jax.Array, *, graph: nnx.GraphDef, flip: bool
) -> tuple[jax.Array, jax.Array]:
    """Logits and embeddings; with `flip`, logits are the means over an image and its mirror image."""
    logits, embeddings = evaluated(nnx.merge(graph, parameters, statistics), images, flip=flip)
    return logits, embeddings  # a plain tuple: an exported program can hold no type of ours
