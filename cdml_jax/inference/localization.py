"""Where the object is in photographs, by the last feature map of a network and no box to learn from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from cdml_jax.data.images.transforms import whole_view
from cdml_jax.data.readers.boxes import Box
from cdml_jax.errors import UserError
from cdml_jax.inference.descriptors import DDT, common_positions, direction_of, maps_of
from cdml_jax.inference.photographs import Note, Photograph, each
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.models.network import Network
from cdml_jax.retrieval.boxes import bounding_boxes
from cdml_jax.retrieval.components import largest_component
from cdml_jax.retrieval.descriptors import Direction, above_mean

SCDA = "scda"
METHODS = (DDT, SCDA)


def _selected(network: Network, images: jax.Array) -> tuple[jax.Array, ...]:
    return (largest_component(above_mean(maps_of(network, images).last)),)


def _common(network: Network, images: jax.Array, mean: jax.Array, vector: jax.Array) -> tuple[jax.Array, ...]:
    return (common_positions(maps_of(network, images).last, mean, vector),)


class Localizer:
    """Boxes of photographs by one method.

    Args:
      run: whose network is used.
      method: "scda", each photograph by itself: the largest component of the activations above their mean;
        or "ddt", a set of photographs of one thing: the largest component of what they have in common.
      side: of the square to which whole photographs are squeezed, in pixels.
    """

    def __init__(self, run: TrainedRun, method: str, side: int):
        self.run, self.method, self.side = run, method, side
        self._compute = run.computing(_selected if method == SCDA else _common)

    def boxes(
        self,
        photographs: Sequence[Photograph],
        *,
        direction: Direction | None = None,
        note: Note | None = None,
    ) -> Iterator[Box | UserError]:
        """The box of each photograph of a set in turn, or why it cannot be read.

        Args:
          photographs: a set; by DDT they are looked at twice.
          direction: of a set that holds these, where it is known; else DDT finds that of these.
          note: as `photographs.each` takes it.

        Raises:
          UserError: none can be read, by DDT.
        """
        more: tuple[np.ndarray, ...] = ()
        if self.method == DDT:
            found = direction_of(self.run, photographs, self.side) if direction is None else direction
            more = found.mean.astype(np.float32), found.vector.astype(np.float32)
        return _boxed(photographs, lambda images: self._compute(images, *more), self, note)


def _boxed(
    photographs: Iterable[Photograph],
    compute: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    localizer: Localizer,
    note: Note | None,
) -> Iterator[Box | UserError]:
    view = functools.partial(whole_view, size=localizer.side)
    for seen in each(photographs, view, compute, size=localizer.run.batch_size, note=note):
        if isinstance(seen, UserError):
            yield seen
            continue
        yield box_of(seen.outputs[0], seen.shape)


def box_of(mask: np.ndarray, shape: tuple[int, int]) -> Box:
    """The box around a mask (rows, columns) of a whole photograph, which is so high and wide in pixels."""
    boxes, found = bounding_boxes(mask[None])
    left, top, right, bottom = boxes[0].tolist()
    return Box(left, top, right, bottom, shape[1], shape[0], bool(found[0]))
