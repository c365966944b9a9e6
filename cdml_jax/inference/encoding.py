"""A data set through a network's feature maps: encodings of every image, and the boxes of its object.

The network sees each image twice: once for all encodings and the sums that DDT needs, once for DDT.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.data.dataset import Dataset
from cdml_jax.data.dividing.derived import Joined
from cdml_jax.data.images.transforms import whole_view
from cdml_jax.data.readers.boxes import Box
from cdml_jax.errors import UserError
from cdml_jax.inference.descriptors import common_positions, maps_of
from cdml_jax.inference.localization import box_of
from cdml_jax.inference.photographs import Computed, each
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.models.network import Network
from cdml_jax.retrieval.components import largest_component
from cdml_jax.retrieval.descriptors import (
    DescriptorSums,
    Direction,
    above_mean,
    descriptor_sums,
    pooled_descriptors,
    principal_direction,
    selected_positions,
    selective_descriptors,
)
from cdml_jax.retrieval.encodings import Mixture, fisher_vector, fit_centres, fit_mixture, vlad
from cdml_jax.system import console

_SAMPLED = 500  # images by which the codebooks are fitted
_DESCRIPTORS = 20_000  # of them
_ENCODED = ("scda", "both_all", "vlad", "fisher", "earlier", "mirrored")


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """A data set's images, those of each class together.

    Attributes:
      names, labels: of the images.
      is_query: those of the test split.
      map_shape: of the last feature map: height, width, channels.
      encodings: (images, size) float32 by name; each half or quarter of length 1.
      boxes: of each image, by the method's name.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    is_query: np.ndarray
    map_shape: tuple[int, int, int]
    encodings: dict[str, np.ndarray]
    boxes: dict[str, list[Box]]


def encode(run: TrainedRun, dataset: Dataset, side: int) -> Encoded:
    """All encodings and boxes of a data set's images.

    VLAD's centres and the Fisher vector's mixture are fitted on the selected descriptors of some images that
    are not of the test split. DDT's sets are the images of each class, and all images.

    Args:
      run: whose network is used.
      dataset: with a test split.
      side: of the square to which images are squeezed, in pixels.

    Raises:
      UserError: an image cannot be read; the message names it.
    """
    images = _Images(run, dataset, side)
    codebooks = _codebooks(images)
    rows, directions, total, scda = _first_look(images, codebooks)
    ddt_rows, ddt, ddt_all = _second_look(images, directions, principal_direction(total))
    plus = np.concatenate([rows["scda"], rows["earlier"]], axis=1)
    size = rows["scda"].shape[1] // 2
    encodings = {
        "vlad": rows["vlad"],
        "fisher": rows["fisher"],
        "average": rows["scda"][:, :size],
        "maximum": rows["scda"][:, size:],
        "scda": rows["scda"],
        "scda+": plus,
        "scda_flip+": np.concatenate([plus, rows["mirrored"]], axis=1),
        "ddt": ddt_rows,
        "average_all": rows["both_all"][:, :size],
        "maximum_all": rows["both_all"][:, size:],
        "both_all": rows["both_all"],
    }
    boxes = {"box_scda": scda, "box_ddt_all": ddt_all, "box_ddt": ddt}
    return Encoded(images.names, images.labels, images.is_query, images.map_shape, encodings, boxes)


class _Images:
    """The images of all splits, class after class, as a network sees them."""

    def __init__(self, run: TrainedRun, dataset: Dataset, side: int):
        self.run, self.side = run, side
        whole = Joined(list(dataset.splits.values()))
        of_test = np.repeat(
            [split == "test" for split in dataset.splits], list(map(len, dataset.splits.values()))
        )
        self._source, self._order = whole, np.argsort(whole.labels, kind="stable")
        self.labels, self.is_query = whole.labels[self._order], of_test[self._order]
        self.names = tuple(whole.name(int(i)) for i in self._order)
        image = jax.ShapeDtypeStruct((1, side, side, 3), np.uint8)
        self.map_shape: tuple[int, int, int] = run.shapes_of(maps_of, image).last.shape[1:]

    def classes(self) -> Iterator[np.ndarray]:
        """Places of the images of each class."""
        for label in np.unique(self.labels):
            yield np.flatnonzero(self.labels == label)

    def each(
        self, places: np.ndarray, compute: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    ) -> Iterator[Computed]:
        """What is computed of the images at some places, in turn."""
        photographs = (self._source.image(int(self._order[place])) for place in places)
        view = functools.partial(whole_view, size=self.side)
        found = each(photographs, view, compute, size=self.run.batch_size)
        for place, one in zip(places, found, strict=True):
            if isinstance(one, UserError):
                raise UserError(f"{self.names[place]}: {one}")
            yield one


def _codebooks(images: _Images) -> tuple[np.ndarray, Mixture]:
    """Centres and mixture of selected descriptors, drawn from gallery images that are evenly spread."""

    def selected(network: Network, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        last = maps_of(network, batch).last.astype(jnp.float32)
        return last, selected_positions(last)

    gallery = np.flatnonzero(~images.is_query)
    places = gallery[np.unique(np.linspace(0, len(gallery) - 1, _SAMPLED).astype(int))]
    rng, a_image = np.random.default_rng(0), -(-_DESCRIPTORS // len(places))
    sample = []
    with console.progress("Sampling descriptors", len(places)) as shown:
        for one in images.each(places, images.run.computing(selected)):
            feature_map, positions = one.outputs
            there = feature_map[positions]
            sample.append(there[rng.permutation(len(there))[:a_image]])
            shown.advance()
    descriptors = np.concatenate(sample)
    with console.working("Fitting the codebooks"):
        return fit_centres(descriptors).astype(np.float32), fit_mixture(descriptors)


def _encodings(
    network: Network, batch: jax.Array, where: jax.Array, centres: jax.Array, mixture: Mixture
) -> tuple[tuple[jax.Array, ...], DescriptorSums]:
    """Rows by `_ENCODED`, then the mask of SCDA's box; and the sums for DDT."""
    last, earlier = maps_of(network, batch)
    mirrored = maps_of(network, batch[:, :, ::-1])
    positions = selected_positions(last)
    both = selective_descriptors(last, earlier)
    size = 2 * last.shape[3]
    rows = (
        both[:, :size],
        pooled_descriptors(last, jnp.ones_like(positions)),
        vlad(last, positions, centres),
        fisher_vector(last, positions, mixture),
        both[:, size:],
        selective_descriptors(*mirrored),
        largest_component(above_mean(last)),
    )
    return rows, descriptor_sums(last, where=where)


def _first_look(
    images: _Images, codebooks: tuple[np.ndarray, Mixture]
) -> tuple[dict[str, np.ndarray], list[Direction], DescriptorSums, list[Box]]:
    compute = images.run.summing(_encodings)
    sums: list[DescriptorSums] = []

    def rows_of(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        ((rows, part),) = compute(batch, *codebooks)
        sums[-1:] = [sums[-1].plus(part)] if sums else [part]
        return tuple(np.asarray(row)[: len(batch)] for row in rows)

    kept: dict[str, np.ndarray] = {}
    directions, boxes = [], []
    total: DescriptorSums | None = None
    with console.progress("Encoding images", len(images.names)) as shown:
        for places in images.classes():
            sums.clear()
            for place, one in zip(places, images.each(places, rows_of), strict=True):
                for name, row in zip(_ENCODED, one.outputs):
                    if name not in kept:
                        kept[name] = np.empty((len(images.names), row.size), np.float32)
                    kept[name][place] = row
                boxes.append(box_of(one.outputs[-1], one.shape))
                shown.advance()
            directions.append(principal_direction(sums[0]))
            total = sums[0].plus(total) if total is not None else sums[0]
    assert total is not None
    return kept, directions, total, boxes


def _second_look(
    images: _Images, directions: list[Direction], of_all: Direction
) -> tuple[np.ndarray, list[Box], list[Box]]:
    def transformed(network: Network, batch: jax.Array, one: Any, every: Any) -> tuple[jax.Array, ...]:
        last = maps_of(network, batch).last
        of_class, of_set = (common_positions(last, *direction) for direction in (one, every))
        chosen = of_set | ~of_set.any((1, 2), keepdims=True)
        return pooled_descriptors(last, chosen), of_class, of_set

    compute = images.run.computing(transformed)
    every = _narrow(of_all)
    rows: list[np.ndarray] = []
    by_class, by_all = [], []
    with console.progress("Localizing", len(images.names)) as shown:
        for direction, places in zip(directions, images.classes(), strict=True):
            both = _narrow(direction), every
            for one in images.each(places, functools.partial(_of, compute, both)):
                row, of_class, of_set = one.outputs
                rows.append(row)
                by_class.append(box_of(of_class, one.shape))
                by_all.append(box_of(of_set, one.shape))
                shown.advance()
    return np.stack(rows), by_class, by_all


def _of(compute: Callable[..., Any], directions: tuple[Any, Any], batch: np.ndarray) -> Any:
    return compute(batch, *directions)


def _narrow(direction: Direction) -> tuple[np.ndarray, np.ndarray]:
    return direction.mean.astype(np.float32), direction.vector.astype(np.float32)
