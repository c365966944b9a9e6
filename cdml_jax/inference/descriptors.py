"""Descriptors of photographs that need no training, by the last feature map of a run's network.

The network sees the whole photograph, squeezed to a square: a place of the map is a place of the image.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.data.images.transforms import whole_view
from cdml_jax.errors import UserError
from cdml_jax.inference.photographs import Note, Photograph, each
from cdml_jax.inference.trained_run import Outputs, TrainedRun
from cdml_jax.models.maps import FeatureMaps
from cdml_jax.models.network import Network
from cdml_jax.models.pixels import normalize_images
from cdml_jax.retrieval.components import largest_component
from cdml_jax.retrieval.descriptors import (
    DescriptorSums,
    Direction,
    descriptor_sums,
    indicator_maps,
    of_length_one,
    pooled_descriptors,
    principal_direction,
    selective_descriptors,
)

DDT = "ddt"


def maps_of(network: Network, images: jax.Array) -> FeatureMaps:
    """The network's maps of images as bytes (batch, side, side, 3)."""
    return network.feature_maps(normalize_images(images))


def _scda(network: Network, images: jax.Array) -> tuple[jax.Array]:
    return (of_length_one(selective_descriptors(maps_of(network, images).last)),)


def _scda_plus(network: Network, images: jax.Array) -> tuple[jax.Array]:
    return (of_length_one(selective_descriptors(*maps_of(network, images))),)


def _scda_flip_plus(network: Network, images: jax.Array) -> tuple[jax.Array]:
    both = [_scda_plus(network, view)[0] for view in (images, images[:, :, ::-1])]
    return (of_length_one(jnp.concatenate(both, axis=1)),)


def _ddt(network: Network, images: jax.Array, mean: jax.Array, vector: jax.Array) -> tuple[jax.Array]:
    feature_map = maps_of(network, images).last
    positions = common_positions(feature_map, mean, vector)
    chosen = positions | ~positions.any((1, 2), keepdims=True)
    return (of_length_one(pooled_descriptors(feature_map, chosen)),)


def _sums(network: Network, images: jax.Array, where: jax.Array) -> DescriptorSums:
    return descriptor_sums(maps_of(network, images).last, where=where)


def common_positions(feature_map: jax.Array, mean: jax.Array, vector: jax.Array) -> jax.Array:
    """DDT's object: the largest component of P > 0, (batch, height, width); it may be empty."""
    return largest_component(indicator_maps(feature_map, mean, vector) > 0)


DESCRIPTORS: dict[str, Callable[..., tuple[jax.Array]]] = {
    "scda": _scda,
    "scda+": _scda_plus,
    "scda_flip+": _scda_flip_plus,
    DDT: _ddt,
}
"""By their names: rows of length 1 of the network, images as bytes and, for DDT, the direction of a set."""


def check_side(run: TrainedRun, side: int) -> None:
    """Refuse a side that the network cannot take, before any image is read.

    Raises:
      UserError: it is below one position of the network, or no multiple of its patch.
    """
    try:
        run.shapes_of(maps_of, jax.ShapeDtypeStruct((1, side, side, 3), np.uint8))
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"--image-size: {side} pixels are not what this network takes ({error})") from error


@dataclasses.dataclass(frozen=True, eq=False)
class Descriptor:
    """How photographs are described.

    Attributes:
      name: a key of `DESCRIPTORS`.
      side: of the square that the network sees, in pixels.
      direction: of the set of photographs, for DDT; else None.
    """

    name: str
    side: int
    direction: Direction | None = None

    def each(
        self, run: TrainedRun, photographs: Iterable[Photograph], *, note: Note | None = None
    ) -> Iterator[Outputs | UserError]:
        """The descriptor of each photograph in turn, of length 1, as its embedding; or why there is none."""
        compute = run.computing(DESCRIPTORS[self.name])
        more = () if self.direction is None else _narrow(self.direction)
        found = each(
            photographs,
            functools.partial(whole_view, size=self.side),
            lambda images: compute(images, *more),
            size=run.batch_size,
            note=note,
        )
        for row in found:
            yield row if isinstance(row, UserError) else Outputs(np.zeros(0, np.float32), *row.outputs)


def _narrow(direction: Direction) -> tuple[np.ndarray, np.ndarray]:
    return direction.mean.astype(np.float32), direction.vector.astype(np.float32)


def fitted(name: str, run: TrainedRun, photographs: Iterable[Photograph], side: int) -> Descriptor:
    """The descriptor by its name; for DDT, after a first look at the photographs, all taken as one set."""
    if name != DDT:
        return Descriptor(name, side)
    return Descriptor(name, side, direction_of(run, photographs, side))


def direction_of(run: TrainedRun, photographs: Iterable[Photograph], side: int) -> Direction:
    """The direction in which the descriptors of a set vary most; what cannot be read is left out.

    Raises:
      UserError: none can be read.
    """
    compute = run.summing(_sums)
    sums: list[DescriptorSums] = []

    def add(images: np.ndarray) -> tuple[np.ndarray, ...]:
        for part in compute(images):
            sums[:] = [sums[0].plus(part) if sums else part]
        return (np.zeros(len(images)),)

    view = functools.partial(whole_view, size=side)
    for _ in each(photographs, view, add, size=run.batch_size):
        pass
    if not sums:
        raise UserError("ddt: none of the photographs of a set can be read")
    return principal_direction(sums[0])
