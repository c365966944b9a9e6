"""Counts split by class: each device holds those of its own classes."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cdml_jax import confusion
from cdml_jax.confusion import ByClassConfusion, ByClassPairWeights, PairWeights
from cdml_jax.distributed.mesh import DATA, MODEL, gather_rows, replicated, split_rows
from cdml_jax.sampling.triplets import Drawn, Sample
from cdml_jax.training.storage.parts import Placed, abstract, draw_parts, predictions_of
from cdml_jax.training.storage.protocol import EpochCounts

_ROWS = 64  # rows are a multiple of it: of one shape on any common number of devices


@dataclasses.dataclass(frozen=True)
class ByClass(Placed):
    """One matrix (R, C) whose rows are split over "data", a few rows of no class at its end.

    `Storage` documents the methods.
    """

    name = "by_class"
    whole_pairs = False

    def empty(self, dtype: Any) -> EpochCounts:
        return jnp.zeros((self._rows(self.places), self.num_classes), dtype)

    def shardings(self) -> NamedSharding:
        """Of an epoch's counts: columns lie where those of the logits do."""
        return NamedSharding(self.mesh, PartitionSpec(DATA, MODEL))

    def add(
        self, counts: EpochCounts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool
    ) -> EpochCounts:
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
        def add(counts: Any, labels: jax.Array, predictions: jax.Array) -> Any:
            rows, columns = counts.shape
            if soft:
                predictions = jax.lax.all_gather(predictions, DATA, tiled=True)
            else:
                predictions = predictions - jax.lax.axis_index(MODEL) * columns
            return confusion.update(counts, labels - jax.lax.axis_index(DATA) * rows, predictions)

        return add(counts, labels, predictions)

    def draw(self, keys: jax.Array, labels: jax.Array, pairs: PairWeights, sample: Sample[Drawn]) -> Drawn:
        """What `sample` draws of each microbatch; devices exchange the weights of its classes alone."""
        whole = PartitionSpec()
        draw = functools.partial(draw_parts, sample=sample)
        return jax.shard_map(
            draw, mesh=self.mesh, in_specs=(whole, whole, PartitionSpec(DATA)), out_specs=whole
        )(keys, labels, pairs)

    def nothing(self) -> ByClassConfusion:
        zeros = functools.partial(self.empty, jnp.float32)
        return ByClassConfusion(jax.jit(zeros, out_shardings=split_rows(self.mesh))(), DATA)

    def total(self, counts: EpochCounts) -> ByClassConfusion:
        """Counts of all devices: they are, where they lie."""
        return ByClassConfusion(counts, DATA)

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        return jax.device_put(pairs, split_rows(self.mesh))

    def abstract_pairs(self) -> ByClassPairWeights:
        return ByClassPairWeights(self.abstract_kept(self.places)[1], DATA)

    def abstract_total(self) -> Any:
        return ()

    def abstract_kept(self, data: int) -> tuple[Any, Any]:
        rows = self._rows(data)
        matrix = abstract((rows, self.num_classes), np.float32, self._fitting(rows))
        return matrix, matrix

    def abstract_saved(self, counts: EpochCounts, data: int) -> Any:
        rows = self._rows(data)
        return jax.tree.map(lambda a: abstract((rows, *a.shape[1:]), a.dtype, self._fitting(rows)), counts)

    def moved(self, counts: EpochCounts) -> EpochCounts:
        return self._moved(counts, self.shardings())

    def moved_kept(self, kept: Any, pairs: Any) -> tuple[ByClassConfusion, ByClassPairWeights]:
        kept, pairs = (self._moved(matrix, split_rows(self.mesh)) for matrix in (kept, pairs))
        return ByClassConfusion(kept, DATA), ByClassPairWeights(pairs, DATA)

    def _rows(self, data: int) -> int:
        step = math.lcm(_ROWS, data)
        return -(-self.num_classes // step) * step

    def _fitting(self, rows: int) -> NamedSharding:
        return split_rows(self.mesh) if rows % self.places == 0 else replicated(self.mesh)

    def _moved(self, matrix: Any, sharding: NamedSharding) -> Any:
        """A matrix with as many rows of no class at its end as are needed here."""
        added = self._rows(self.places) - self.num_classes

        def refit(matrix: jax.Array) -> jax.Array:
            return jnp.pad(matrix[: self.num_classes], ((0, added), (0, 0)))

        return jax.jit(refit, out_shardings=sharding)(matrix)
