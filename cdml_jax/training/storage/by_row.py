"""Counts split by row: each device holds those of its own classes."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cdml_jax import confusion
from cdml_jax.sampling import Triplets
from cdml_jax.training.mesh import DATA, MODEL, by_row, gather_rows, replicated
from cdml_jax.training.storage.parts import (
    Counts,
    PairWeights,
    abstract,
    compiled,
    draw_parts,
    predictions_of,
)

_ROWS = 64  # rows are a multiple of it: of one shape on any common number of devices


@dataclasses.dataclass(frozen=True)
class ByRow:
    """One matrix whose rows are split over "data", a few rows of no class at its end."""

    mesh: Mesh
    num_classes: int
    name = "by_row"
    whole_pairs = False

    def _rows(self, data: int) -> int:
        step = math.lcm(_ROWS, data)
        return -(-self.num_classes // step) * step

    def _zeros(self, dtype: Any) -> jax.Array:
        return jnp.zeros((self._rows(self.mesh.shape[DATA]), self.num_classes), dtype)

    def empty(self, dtype: Any) -> Counts:
        """Counts of no image."""
        return self._zeros(dtype)

    def shardings(self) -> Any:
        """Of the counts: columns lie where those of the logits do."""
        return NamedSharding(self.mesh, PartitionSpec(DATA, MODEL))

    def add(self, counts: Counts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool) -> Counts:
        """Every device sees the predictions of all rows and adds those of its own classes."""
        labels = gather_rows(self.mesh, jnp.where(batch["mask"], batch["label"], -1))
        predictions = predictions_of(logits, soft)
        matrix, whole = self.shardings().spec, PartitionSpec()
        if not soft:
            predictions = gather_rows(self.mesh, predictions)

        @functools.partial(
            jax.shard_map,
            mesh=self.mesh,
            in_specs=(matrix, whole, matrix if soft else whole),
            out_specs=matrix,
        )
        def add(counts, labels, predictions):
            rows, columns = counts.shape
            if soft:
                predictions = jax.lax.all_gather(predictions, DATA, tiled=True)
            else:
                predictions = predictions - jax.lax.axis_index(MODEL) * columns
            return confusion.update(counts, labels - jax.lax.axis_index(DATA) * rows, predictions)

        return add(counts, labels, predictions)

    def total(self, counts: Counts) -> Counts:
        """Counts of all devices: they are, where they lie."""
        return counts

    def nothing(self) -> Counts:
        """What is kept over epochs before the first: float32, on the devices."""
        return jax.jit(lambda: self._zeros(jnp.float32), out_shardings=by_row(self.mesh))()

    def keep(self, kept: Counts, decay: float, total: Counts) -> Counts:
        """What is kept, with decay, and an epoch's counts."""
        return compiled(_decayed_sum, by_row(self.mesh))(kept, decay, total)

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights as the step takes them."""
        return jax.device_put(pairs, by_row(self.mesh))

    def draw(self, keys: jax.Array, labels: jax.Array, pairs: PairWeights, *, num_triplets: int) -> Triplets:
        """Triplets of each microbatch; devices exchange the weights among the batch's classes alone."""
        whole = PartitionSpec()
        draw = functools.partial(draw_parts, num_triplets=num_triplets, rows_axis=DATA)
        return jax.shard_map(
            draw, mesh=self.mesh, in_specs=(whole, whole, PartitionSpec(DATA)), out_specs=whole
        )(keys, labels, pairs)

    def abstract_kept(self, data: int) -> tuple[Counts, PairWeights]:
        """What is kept and the pair weights, as saved with `data` places, for a restore here."""
        matrix = abstract((self._rows(data), self.num_classes), np.float32, self._fitting(self._rows(data)))
        return matrix, matrix

    def abstract_total(self) -> Counts:
        """What `total` makes on each device: nothing."""
        return ()

    def abstract_saved(self, counts: Counts, data: int) -> Counts:
        """Counts of an epoch as saved with `data` places, given those of here."""
        rows = self._rows(data)
        return abstract((rows, self.num_classes), counts.dtype, self._fitting(rows))

    def _fitting(self, rows: int) -> NamedSharding:
        return by_row(self.mesh) if rows % self.mesh.shape[DATA] == 0 else replicated(self.mesh)

    def moved(self, counts: Counts) -> Counts:
        """Counts of another number of places."""
        return self._moved(counts, self.shardings())

    def moved_kept(self, kept: Counts, pairs: PairWeights) -> tuple[Counts, PairWeights]:
        """What was restored, as it is kept here."""
        return self._moved(kept, by_row(self.mesh)), self._moved(pairs, by_row(self.mesh))

    def _moved(self, matrix: jax.Array, sharding: NamedSharding) -> jax.Array:
        added = self._rows(self.mesh.shape[DATA]) - self.num_classes

        def refit(matrix):
            return jnp.pad(matrix[: self.num_classes], ((0, added), (0, 0)))

        return jax.jit(refit, out_shardings=sharding)(matrix)


def _decayed_sum(kept: jax.Array, decay: jax.Array, total: jax.Array) -> jax.Array:
    return decay * kept + total.astype(jnp.float32)
