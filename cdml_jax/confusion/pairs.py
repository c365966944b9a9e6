"""Pair weights as a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.confusion.draws import draw_cells
from cdml_jax.confusion.successive import CELLS, inclusion

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class DensePairWeights(NamedTuple):
    """Pair weights A (C, C), float32; `PairWeights` documents the methods.

    Attributes:
      matrix: numpy on the host, jax on devices; its diagonal is ignored.
    """

    matrix: Float[Array, "classes classes"] | Any

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.matrix)

    @property
    def num_classes(self) -> int:
        return self.shape[-1]

    @property
    def arrays(self) -> Any:
        return self.matrix

    def is_law(self) -> bool:
        return bool(np.isfinite(self.matrix).all() and (self.matrix >= 0).all())

    def rows(self, classes: Any) -> Any:
        return self.matrix[classes]

    def at(self, places: np.ndarray) -> np.ndarray:
        i, j = places.T
        return np.asarray(self.matrix[i, j])

    def largest(self, number: int) -> np.ndarray:
        """As `PairWeights.largest`.

        >>> DensePairWeights(np.array([[0.0, 0.7], [0.3, 0.0]])).largest(2).tolist()
        [[0, 1], [1, 0]]
        >>> DensePairWeights(np.zeros((2, 2))).largest(9).tolist()
        [[0, 1], [1, 0]]
        """
        classes = self.shape[0]
        weights = np.array(self.matrix).ravel()
        weights[:: classes + 1] = -1  # the diagonal
        number = min(number, classes * (classes - 1))
        # At least `number` pairs are no smaller than this one: the largest of so many rows, or of all pairs.
        among = weights.reshape(self.shape).max(axis=1) if number <= classes else weights
        least = np.partition(among, among.size - number)[among.size - number]
        found = np.flatnonzero(weights > least)
        equal = np.flatnonzero(weights == least)[: max(number - found.size, 0)]
        found = np.concatenate([found, equal])
        found = found[np.lexsort([found, -weights[found]])[:number]]
        return np.stack(np.unravel_index(found, self.shape), axis=1).astype(np.int32)

    def uniform(self) -> DensePairWeights:
        return DensePairWeights(equal_weights(*self.shape))

    def on_host(self) -> DensePairWeights:
        return DensePairWeights(np.asarray(self.matrix))

    def draw(
        self, key: jax.Array, classes: jax.Array, images: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        weights = jnp.asarray(self.matrix)[classes[:, None], classes[None, :]].astype(jnp.float32)
        return draw_cells(key, served(weights, images), number)

    def others(
        self, draws: np.random.Generator, anchors: np.ndarray, number: int, present: np.ndarray
    ) -> Iterator[np.ndarray]:
        for anchor in anchors:
            weights = self._masked_rows(present, np.array([anchor]))[0]
            candidates = np.flatnonzero(weights)
            rings = draws.exponential(size=candidates.size) / weights[candidates]
            yield candidates[np.argsort(rings, kind="stable")[:number]]

    def joined(self, anchors: np.ndarray, number: int, present: np.ndarray) -> np.ndarray:
        result = np.zeros(anchors.size)
        rows = max(CELLS // anchors.size, 1)
        for begin in range(0, anchors.size, rows):
            chances = self._masked_rows(present, np.arange(begin, min(begin + rows, anchors.size)))
            result += anchors[begin : begin + rows] @ inclusion(chances, 1, number)
        return result

    def _masked_rows(self, present: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows of the matrix in float64, 0 on the diagonal and for classes without images."""
        weights = np.asarray(self.matrix)[rows] * present.astype(np.float64)
        weights[np.arange(rows.size), rows] = 0
        return weights


def served(weights: Float[Array, "present present"], images: jax.Array) -> Float[Array, "present present"]:
    """Weights among the classes of a batch, 0 for the pairs that it cannot serve, by its images of each."""
    serves = (images >= 2)[:, None] & (images >= 1)[None, :]
    serves &= ~jnp.eye(images.size, dtype=bool)
    return jnp.where(serves & (weights > 0), weights, 0)


def equal_weights(rows: int, classes: int) -> np.ndarray:
    """The first rows of a matrix of equal weights of all pairs of classes, with zeros on the diagonal."""
    return (1 - np.eye(rows, classes, dtype=np.float32)) / max(classes * (classes - 1), 1)
