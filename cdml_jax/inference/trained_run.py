"""A trained run, used: logits, embeddings and named classes of images, where its training images are not."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np
from etils.epath import Path
from flax import nnx
from jax.typing import ArrayLike

from cdml_jax.configuration.checks import check_dtype
from cdml_jax.configuration.settings import Settings, from_plain
from cdml_jax.data.checking.images import DAMAGED, captured_errors, damage_of, says_damage
from cdml_jax.data.classes import Classes
from cdml_jax.data.images.decoding import inspect
from cdml_jax.data.images.transforms import evaluation_view
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.models import build, spec_of
from cdml_jax.runs import calibration, class_names, workdir
from cdml_jax.runs.trained_weights import Weights, restore_weights
from cdml_jax.system.files import path_of
from cdml_jax.system.trees import digest_of_arrays
from cdml_jax.training.evaluation import evaluated
from cdml_jax.training.state import split_model

Photograph = str | os.PathLike | bytes | np.ndarray
Note = Callable[[str, Photograph], None]

_BATCH = 64  # the largest batch of one device; smaller ones are powers of two


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
    network = nnx.eval_shape(lambda: build(config.model.name, spec, rngs=nnx.Rngs(0)))
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
        devices = self._mesh.size
        parts = []
        for start in range(0, max(1, len(images)), _BATCH * devices):
            part = images[start : start + _BATCH * devices]
            rows = devices * (1 << max(0, -(-len(part) // devices) - 1).bit_length())
            padded = np.pad(part, ((0, rows - len(part)), (0, 0), (0, 0), (0, 0)))
            on_devices = mesh_lib.put_batch(self._mesh, {"image": padded})["image"]
            parts.append((len(part), self._apply(*self._placed, on_devices)))
        # Read once all are under way.
        arrays = [[np.asarray(output)[:rows] for output in outputs] for rows, outputs in parts]
        return Outputs(*(np.concatenate(output) for output in zip(*arrays)))

    def view(self, photograph: Photograph) -> np.ndarray:
        """What the network sees of a photograph: the centre square of its scaled version.

        Args:
          photograph: a file, a file's bytes, or a uint8 array (height, width, 3), RGB, of any size.

        Returns:
          uint8 (image_size, image_size, 3).

        Raises:
          UserError: it cannot be read; the message begins with the file's name.
        """
        return self._seen(photograph)[0]

    def _seen(self, photograph: Photograph) -> tuple[np.ndarray, list[str]]:
        """`view`, and what is worth knowing about the photograph."""
        if isinstance(photograph, (bytes, np.ndarray)):
            image, traits = inspect(photograph) if isinstance(photograph, bytes) else (photograph, [])
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
                raise UserError(f"a photograph is uint8 (height, width, 3), not {image.dtype} {image.shape}")
            return evaluation_view(image, self.transform), traits
        try:
            return self._seen(Path(photograph).read_bytes())
        except OSError as error:
            raise UserError(f"{photograph}: cannot be opened ({error.strerror or error})") from error
        except UserError as error:
            raise UserError(f"{photograph}: {error}") from error

    def each(
        self, photographs: Iterable[Photograph], *, note: Note | None = None
    ) -> Iterator[Outputs | UserError]:
        """Logits (classes,) and embedding (size,) of each photograph in turn, or why it cannot be read.

        Photographs are decoded by threads, a batch ahead, and never all held.

        Args:
          photographs: as for `view`.
          note: takes what is worth knowing about an image, a kind of note as `cdml prepare` prints it, and
            the photograph. Where it is given, standard error is held back while images are decoded: the JPEG
            library prints there of damage, and names no file.
        """

        def seen(photograph: Photograph) -> tuple[np.ndarray | UserError, list[str]]:
            try:
                return self._seen(photograph)
            except UserError as error:
                return error, []

        remaining, size = iter(photographs), _BATCH * self._mesh.size
        with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:

            def following() -> list[tuple[Photograph, Future]]:
                return [(photograph, pool.submit(seen, photograph)) for photograph in islice(remaining, size)]

            with _held_back(note) as printed:
                ahead = following()
                wait([future for _, future in ahead])
            while ahead:
                results = [(photograph, *future.result()) for photograph, future in ahead]
                if note is not None:
                    _note(note, results, damage=bool(says_damage(printed)))
                views = [view for _, view, _ in results]
                with _held_back(note) as printed:
                    ahead = following()
                    good = [view for view in views if not isinstance(view, UserError)]
                    outputs = zip(*self(np.stack(good))) if good else iter(())
                    if note is not None:
                        wait([future for _, future in ahead])  # so that what is printed is of this batch
                for view in views:
                    yield view if isinstance(view, UserError) else Outputs(*next(outputs))

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


def _held_back(note: Note | None) -> contextlib.AbstractContextManager[list[str]]:
    return contextlib.nullcontext([]) if note is None else captured_errors()


def _note(note: Note, results: Iterable[tuple[Photograph, Any, list[str]]], *, damage: bool) -> None:
    """Passes on what is known of a batch; with `damage`, looks for the JPEG files that have it."""
    for photograph, view, traits in results:
        for trait in traits:
            note(trait, photograph)
        if not damage or isinstance(view, UserError) or isinstance(photograph, np.ndarray):
            continue
        data = photograph if isinstance(photograph, bytes) else Path(photograph).read_bytes()
        if said := damage_of(data):
            note(f"{DAMAGED}: {said}", photograph)


def _apply(
    parameters: Any, statistics: Any, images: jax.Array, *, graph: nnx.GraphDef, flip: bool
) -> tuple[jax.Array, jax.Array]:
    """Logits and embeddings; with `flip`, logits are the means over an image and its mirror image."""
    logits, embeddings = evaluated(nnx.merge(graph, parameters, statistics), images, flip=flip)
    return logits, embeddings  # a plain tuple: an exported program can hold no type of ours
