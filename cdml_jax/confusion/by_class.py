"""Counts and pair weights as matrices whose rows are split over the devices: no device holds one whole."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.confusion.counts import DenseConfusion, derive, weigh
from cdml_jax.confusion.draws import draw_cells
from cdml_jax.confusion.interface import Statistics
from cdml_jax.confusion.pairs import DensePairWeights, equal_weights, served
from cdml_jax.confusion.placing import compiled, to_host, whole
from cdml_jax.confusion.rates import weights_of_rates

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num


@functools.partial(jax.tree_util.register_dataclass, data_fields=["padded"], meta_fields=["axis"])
@dataclasses.dataclass(frozen=True, eq=False)
class ByClassPairWeights:
    """Pair weights A on devices; `PairWeights` documents the methods that are not documented here.

    Attributes:
      padded: (R, C) float32, rows of no class at the end; inside shard_map, the rows of this device.
      axis: of the mesh, over which the rows are split evenly and in order.
    """

    padded: Float[Array, "rows classes"] | Any
    axis: str = "data"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_classes, self.num_classes)

    @property
    def num_classes(self) -> int:
        return self.padded.shape[1]

    @property
    def matrix(self) -> None:
        return None

    @property
    def arrays(self) -> Any:
        return self.padded

    def is_law(self) -> bool:
        return self.on_host().is_law()

    def rows(self, classes: Any) -> jax.Array:
        return compiled(_rows, whole(self.padded))(self.padded, classes)

    def at(self, places: np.ndarray) -> np.ndarray:
        i, j = places.T
        return np.asarray(compiled(_cells, whole(self.padded))(self.padded, i, j))

    def largest(self, number: int) -> np.ndarray:
        return self.on_host().largest(number)

    def uniform(self) -> ByClassPairWeights:
        equal = jax.device_put(equal_weights(*self.padded.shape), self.padded.sharding)
        return ByClassPairWeights(equal, self.axis)

    def on_host(self) -> DensePairWeights:
        return DensePairWeights(to_host(self.padded)[: self.num_classes])

    def draw(
        self, key: jax.Array, classes: jax.Array, images: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `PairWeights.draw`, inside shard_map over `axis`, with the whole batch's classes on each device.

        Devices exchange the weights among these classes alone: each gives those it has, (U, U).
        """
        mine = classes - jax.lax.axis_index(self.axis) * self.padded.shape[0]
        here = ((mine >= 0) & (mine < self.padded.shape[0]))[:, None]
        weights = self.padded[jnp.where(here, mine[:, None], 0), classes[None, :]].astype(jnp.float32)
        weights = jax.lax.psum(jnp.where(here, weights, 0), self.axis)
        return draw_cells(key, served(weights, images), number)

    def others(
        self, draws: np.random.Generator, anchors: np.ndarray, number: int, present: np.ndarray
    ) -> Iterator[np.ndarray]:
        return self.on_host().others(draws, anchors, number, present)

    def joined(self, anchors: np.ndarray, number: int, present: np.ndarray) -> np.ndarray:
        return self.on_host().joined(anchors, number, present)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["padded"], meta_fields=["axis"])
@dataclasses.dataclass(frozen=True, eq=False)
class ByClassConfusion:
    """Counts on devices; `Confusion` documents the methods.

    Attributes:
      padded: (R, C), rows of no class at the end.
      axis: of the mesh, over which the rows are split evenly and in order.
    """

    padded: Num[Array, "rows classes"] | Any
    axis: str = "data"

    @property
    def num_classes(self) -> int:
        return self.padded.shape[1]

    @property
    def matrix(self) -> None:
        return None

    @property
    def arrays(self) -> Any:
        return self.padded

    def rates(self, smoothing: float | jax.Array = 1.0) -> jax.Array:
        return self._unpadded().rates(smoothing)

    def class_weights(
        self,
        *,
        mode: str = "rate",
        beta: float | jax.Array = 1.0,
        smoothing: float | jax.Array = 1.0,
        normalize: bool = True,
    ) -> jax.Array:
        return weights_of_rates(self.rates(smoothing), mode=mode, beta=beta, normalize=normalize)

    def pair_weights(
        self, *, smoothing: float | jax.Array = 1.0, symmetric: bool = False
    ) -> ByClassPairWeights:
        pairs = self._unpadded().pair_weights(smoothing=smoothing, symmetric=symmetric)
        added = self.padded.shape[0] - self.num_classes
        return ByClassPairWeights(jnp.pad(pairs.matrix, ((0, added), (0, 0))), self.axis)

    def class_weights_on_host(
        self, *, mode: str, beta: float, smoothing: float, normalize: bool
    ) -> np.ndarray:
        compiled_weigh = compiled(weigh, whole(self.padded), ("mode", "normalize"))
        return np.asarray(compiled_weigh(self, beta, smoothing, mode=mode, normalize=normalize))

    def statistics(self, *, smoothing: float, symmetric: bool) -> Statistics:
        placed = (whole(self.padded), self.padded.sharding)
        rates, pairs = compiled(derive, placed, ("symmetric",))(self, smoothing, symmetric=symmetric)
        return Statistics(np.asarray(rates), pairs)

    def plus(self, epoch: ByClassConfusion, *, decay: float) -> ByClassConfusion:
        kept = compiled(_decayed_sum, self.padded.sharding)(self.padded, decay, epoch.padded)
        return ByClassConfusion(kept, self.axis)

    def errors_and_correct(self) -> tuple[np.ndarray, np.ndarray]:
        return self.on_host().errors_and_correct()

    def wrong_answers(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.on_host().wrong_answers(index)

    def most_confused(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.on_host().most_confused(number)

    def on_host(self) -> DenseConfusion:
        return DenseConfusion(to_host(self.padded)[: self.num_classes])

    def _unpadded(self) -> DenseConfusion:
        return DenseConfusion(self.padded[: self.num_classes])


def _decayed_sum(kept: jax.Array, decay: jax.Array, epoch: jax.Array) -> jax.Array:
    return decay * kept + epoch.astype(jnp.float32)


def _rows(matrix: jax.Array, classes: jax.Array) -> jax.Array:
    return matrix[classes]


def _cells(matrix: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
    return matrix[i, j]
