"""Counts whole: a matrix for each device, summed once an epoch."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax import confusion
from cdml_jax.confusion import DenseConfusion, DensePairWeights
from cdml_jax.distributed.mesh import of_counts, replicated
from cdml_jax.training.storage.parts import PairsOnEveryDevice, abstract, predictions_of, sum_of_places
from cdml_jax.training.storage.protocol import EpochCounts


@dataclasses.dataclass(frozen=True)
class Dense(PairsOnEveryDevice):
    """A matrix (C, C) for each place on "data"; `Storage` documents the methods."""

    name = "dense"
    whole_pairs = True

    def empty(self, dtype: Any) -> EpochCounts:
        """Empty counts (data, C, C)."""
        one = confusion.init(self.num_classes, dtype)
        return jnp.broadcast_to(one, (self.places, *one.shape))

    def shardings(self) -> Any:
        return of_counts(self.mesh)

    def add(
        self, counts: EpochCounts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool
    ) -> EpochCounts:
        """Each device adds its own rows to its own counts: nothing crosses devices."""
        # (B, …) to (data, B / data, …): the rows of each place.
        rows = jax.tree.map(
            lambda a: a.reshape(self.places, -1, *a.shape[1:]), (batch["label"], logits, batch["mask"])
        )

        def add(counts: Any, labels: jax.Array, logits: jax.Array, mask: jax.Array) -> Any:
            return confusion.update(counts, labels, predictions_of(logits, soft), where=mask)

        return jax.vmap(add)(counts, *rows)

    def nothing(self) -> DenseConfusion:
        return DenseConfusion(np.zeros((self.num_classes, self.num_classes), np.float32))

    def total(self, counts: EpochCounts) -> DenseConfusion:
        return DenseConfusion(np.asarray(sum_of_places(counts, mesh=self.mesh)))

    def abstract_pairs(self) -> DensePairWeights:
        return DensePairWeights(self._abstract_matrix())

    def abstract_total(self) -> Any:
        return self._abstract_matrix()

    def abstract_kept(self, data: int) -> tuple[Any, Any]:
        return self._abstract_matrix(), self._abstract_matrix()

    def abstract_saved(self, counts: EpochCounts, data: int) -> Any:
        return jax.tree.map(lambda a: abstract((data, *a.shape[1:]), a.dtype, replicated(self.mesh)), counts)

    def moved(self, counts: EpochCounts) -> EpochCounts:
        """Counts of another number of places: all are given to the first; their sum is all that is used."""

        def first_of(counts: jax.Array) -> jax.Array:
            total = counts.sum(axis=0, dtype=counts.dtype)
            return jnp.zeros((self.places, *total.shape), total.dtype).at[0].set(total)

        return jax.jit(first_of, out_shardings=self.shardings())(counts)

    def moved_kept(self, kept: Any, pairs: Any) -> tuple[DenseConfusion, DensePairWeights]:
        return DenseConfusion(np.asarray(kept)), DensePairWeights(np.asarray(pairs))

    def _abstract_matrix(self) -> jax.ShapeDtypeStruct:
        return abstract((self.num_classes, self.num_classes), np.float32, replicated(self.mesh))
