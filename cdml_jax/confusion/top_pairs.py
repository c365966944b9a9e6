"""Pair weights of very many classes: a few large ones of each class, and one for all its others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.confusion.counts import first_places
from cdml_jax.confusion.draws import below, draw_cells
from cdml_jax.confusion.successive import CELLS, distinct_places, inclusion

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class TopPairWeights(NamedTuple):
    """Pair weights A (C, C) as few numbers: A[i, j] = rest[i] + excess[i, k] where indices[i, k] = j ≠ i.

    `PairWeights` documents the methods that are not documented here.

    Attributes:
      indices: (C, K) int32; −1 where there is none.
      excess: (C, K) float32, what those pairs weigh more than the class's others; 0 where there is none.
      rest: (C,) float32, the weight of every other pair of the class; the diagonal is 0.
    """

    indices: Int[Array, "classes top"] | Any  # numpy on the host, here and below
    excess: Float[Array, "classes top"] | Any
    rest: Float[Array, " classes"] | Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rest.size, len(self.indices))

    @property
    def num_classes(self) -> int:
        return self.rest.shape[0]

    @property
    def matrix(self) -> None:
        return None

    @property
    def arrays(self) -> TopPairWeights:
        return self

    def is_law(self) -> bool:
        return all(bool(np.isfinite(a).all() and (a >= 0).all()) for a in (self.excess, self.rest))

    def rows(self, classes: Any) -> jax.Array:
        """As `PairWeights.rows`: (n, C) are made, and no more.

        >>> pairs = TopPairWeights(jnp.array([[1], [-1]]), jnp.array([[0.5], [0.0]]), jnp.array([0.1, 0.4]))
        >>> pairs.rows(jnp.array([0, 1])).round(1).tolist()
        [[0.0, 0.6000000238418579], [0.4000000059604645, 0.0]]
        """
        indices, excess, rest = (jnp.asarray(a)[classes] for a in self)
        row = jnp.arange(len(rest))
        rows = jnp.broadcast_to(rest[:, None], (len(rest), self.num_classes))
        listed = jnp.where(indices >= 0, indices, self.num_classes)
        return rows.at[row[:, None], listed].add(excess, mode="drop").at[row, classes].set(0)

    def at(self, places: np.ndarray) -> np.ndarray:
        i, j = places.T
        listed = np.where(self.indices[i] == j[:, None], self.excess[i], 0)
        return self.rest[i] + listed.sum(axis=1)

    def largest(self, number: int) -> np.ndarray:
        """As `PairWeights.largest`: of the listed pairs, and of others of the classes of largest rest."""
        classes = self.num_classes
        i, k = np.nonzero(self.excess > 0)
        j = np.asarray(self.indices[i, k])
        first = first_places(i, j, np.asarray(self.rest[i] + self.excess[i, k]), number)
        # Of each such class the first that are not listed; K + 1 more than wanted, for the listed and itself.
        more = [
            (row, column)
            for row in np.argsort(-self.rest, kind="stable")[:number].tolist()
            for column in range(min(classes, number + self.indices.shape[1] + 1))
            if column != row and column not in self.indices[row]
        ]
        listed = np.stack([i[first], j[first]], axis=1)
        places = np.concatenate([listed, np.array(more, np.int64).reshape(-1, 2)])
        number = min(number, classes * (classes - 1))
        order = first_places(places[:, 0], places[:, 1], self.at(places), number)
        return places[order].astype(np.int32)

    def uniform(self) -> TopPairWeights:
        classes = self.num_classes
        rest = np.full(classes, 1 / max(classes * (classes - 1), 1), np.float32)
        return TopPairWeights(np.full_like(self.indices, -1), np.zeros_like(self.excess), rest)

    def on_host(self) -> TopPairWeights:
        return TopPairWeights(*map(np.asarray, self))

    def draw(
        self, key: jax.Array, classes: jax.Array, images: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `PairWeights.draw`: one of the class's listed answers for its excess, or any class for the rest.

        The table has K + 1 columns for each of the U classes; the last is all its other classes together.
        """
        key_pair, key_other = jax.random.split(key)
        all_indices, all_excess, all_rest = map(jnp.asarray, self)
        there = images >= 1
        listed = all_indices[classes]  # (U, K)
        # The batch's classes ascend, then places of no class follow: those are beyond all.
        ascending = jnp.where(there, classes, all_rest.shape[0])
        present = jnp.argsort(ascending, stable=True).astype(jnp.int32)
        # (U, K): where each listed class is among the batch's, if it is.
        # Unrolled: how often a loop runs is hidden from whoever reads the compiled step.
        place = jnp.searchsorted(ascending[present], listed, method="scan_unrolled").astype(jnp.int32)
        slots = present[jnp.minimum(place, present.size - 1)]
        met = (listed == classes[slots]) & there[slots] & (listed != classes[:, None])
        others = there.sum(dtype=jnp.int32) - 1
        excess = jnp.where(met, all_excess[classes], 0).astype(jnp.float32)
        rest = all_rest[classes].astype(jnp.float32) * others.astype(jnp.float32)
        weights = jnp.concatenate([excess, rest[:, None]], axis=1)  # (U, K + 1)
        weights = jnp.where((images >= 2)[:, None] & (weights > 0), weights, 0)
        first, column, valid = draw_cells(key_pair, weights, number)
        # For the rest: any class of the batch but the first, counted past it.
        of_other = below(jax.random.bits(key_other, (number,), jnp.uint32), others)
        rank = jnp.zeros_like(present).at[present].set(jnp.arange(present.size, dtype=jnp.int32))
        of_other += (of_other >= rank[first]).astype(jnp.int32)
        by_excess = slots[first, jnp.minimum(column, excess.shape[1] - 1)]
        by_rest = present[jnp.minimum(of_other, present.size - 1)]
        return first, jnp.where(column < excess.shape[1], by_excess, by_rest), valid

    def others(
        self, draws: np.random.Generator, anchors: np.ndarray, number: int, present: np.ndarray
    ) -> Iterator[list[int]]:
        """As `PairWeights.others`: two clocks a class, one of its excess, one of the rest.

        Of the clocks of the rest only the first rings are drawn.
        """
        excess = self._masked_excess(present, anchors)  # (groups, K)
        classes = np.flatnonzero(present)
        among = classes.size - 1
        first = min(number, among)
        rest = np.asarray(self.rest, np.float64)[anchors][:, None]
        with np.errstate(divide="ignore"):
            rings = draws.exponential(size=excess.shape) / excess
            # Gaps between the rings of `among` equal clocks, each next one from one clock fewer.
            gaps = draws.exponential(size=(anchors.size, first)) / (rest * (among - np.arange(first)))
        places = distinct_places(draws, anchors.size, among, first)
        places += places >= np.searchsorted(classes, anchors)[:, None]  # past the anchor itself
        times = np.concatenate([rings, np.cumsum(gaps, axis=1)], axis=1)  # (groups, K + first)
        candidates = np.concatenate([self.indices[anchors], classes[places]], axis=1)
        # A class may ring twice: twice as many rings are enough.
        order = np.argsort(times, axis=1, kind="stable")[:, : 2 * number]
        rung = np.isfinite(np.take_along_axis(times, order, axis=1))
        in_order = np.take_along_axis(candidates, order, axis=1)
        for found, counts in zip(in_order, rung):
            yield list(dict.fromkeys(found[counts].tolist()))[:number]

    def joined(self, anchors: np.ndarray, number: int, present: np.ndarray) -> np.ndarray:
        """As `PairWeights.joined`: a class's own excess, and what it shares with all others."""
        result = np.zeros(anchors.size)
        among = int(present.sum()) - 1
        rows = max(CELLS // self.indices.shape[1], 1)
        for begin in range(0, anchors.size, rows):
            part = slice(begin, begin + rows)
            excess = self._masked_excess(present, part)
            listed = excess > 0
            rest = np.asarray(self.rest[part], np.float64)[:, None]
            # (rows, K + 1): the listed candidates, then one column for all that are not listed.
            chances = np.concatenate([np.where(listed, excess + rest, 0), rest], axis=1)
            copies = np.ones_like(chances)
            copies[:, -1] = np.maximum(among - listed.sum(axis=1), 0)
            included = inclusion(chances, copies, number)
            # As if no class were listed, all but the anchor; then what the listed ones have more.
            by_rest = anchors[part] * included[:, -1]
            result += by_rest.sum()
            result[part] -= by_rest
            more = anchors[part, None] * (included[:, :-1] - included[:, -1:])
            np.add.at(result, self.indices[part][listed], more[listed])
        return result * present

    def _masked_excess(self, present: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """Excess of the rows in float64, 0 for classes without images."""
        indices = self.indices[rows]
        return np.where((indices >= 0) & present[indices], self.excess[rows], 0).astype(np.float64)
