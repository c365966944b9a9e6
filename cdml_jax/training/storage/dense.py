"""Counts whole: a matrix for each device, summed once an epoch."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cdml_jax import confusion
from cdml_jax.sampling import Triplets
from cdml_jax.training.mesh import DATA, of_counts, put_replicated, replicated
from cdml_jax.training.storage.parts import Counts, PairWeights, abstract, draw_parts, predictions_of


@dataclasses.dataclass(frozen=True)
class Dense:
    """A matrix (C, C) for each place on "data"."""

    mesh: Mesh
    num_classes: int
    name = "dense"
    whole_pairs = True

    def empty(self, dtype: Any) -> Counts:
        """Counts of no image, (data, C, C)."""
        one = confusion.init(self.num_classes, dtype)
        return jnp.broadcast_to(one, (self.mesh.shape[DATA], *one.shape))

    def shardings(self) -> Any:
        """Of the leaves of the counts."""
        return of_counts(self.mesh)

    def add(self, counts: Counts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool) -> Counts:
        """Each device adds its own rows to its own counts: nothing crosses devices."""
        devices = counts.shape[0]
        rows = jax.tree.map(
            lambda a: a.reshape(devices, -1, *a.shape[1:]), (batch["label"], logits, batch["mask"])
        )

        def add(counts, labels, logits, mask):
            return confusion.update(counts, labels, predictions_of(logits, soft), where=mask)

        return jax.vmap(add)(counts, *rows)

    def total(self, counts: Counts) -> Counts:
        """Counts of all devices, on the host."""
        return np.asarray(_sum_matrices(counts, mesh=self.mesh))

    def nothing(self) -> Counts:
        """What is kept over epochs before the first: float32."""
        return np.zeros((self.num_classes, self.num_classes), np.float32)

    def keep(self, kept: Counts, decay: float, total: Counts) -> Counts:
        """What is kept, with decay, and an epoch's counts."""
        return (decay * kept + total).astype(np.float32)

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights as the step takes them."""
        return put_replicated(self.mesh, pairs)

    def draw(self, keys: jax.Array, labels: jax.Array, pairs: PairWeights, *, num_triplets: int) -> Triplets:
        """Triplets of each microbatch (parts, B / parts) of whole labels, −1 where a row does not count."""
        return draw_parts(keys, labels, pairs, num_triplets=num_triplets)

    def abstract_kept(self, data: int) -> tuple[Counts, PairWeights]:
        """What is kept and the pair weights, as saved with `data` places, for a restore here."""
        matrix = abstract((self.num_classes, self.num_classes), np.float32, replicated(self.mesh))
        return matrix, matrix

    def abstract_total(self) -> Counts:
        """What `total` makes on each device."""
        return self.abstract_kept(self.mesh.shape[DATA])[0]

    def abstract_saved(self, counts: Counts, data: int) -> Counts:
        """Counts of an epoch as saved with `data` places, given those of here."""
        return abstract((data, *counts.shape[1:]), counts.dtype, replicated(self.mesh))

    def moved(self, counts: Counts) -> Counts:
        """Counts of another number of places: all are given to the first; their sum is all that is used."""
        here = self.mesh.shape[DATA]
        return jax.jit(
            lambda a: jnp.zeros((here, *a.shape[1:]), a.dtype).at[0].set(a.sum(axis=0, dtype=a.dtype)),
            out_shardings=self.shardings(),
        )(counts)

    def moved_kept(self, kept: Counts, pairs: PairWeights) -> tuple[Counts, PairWeights]:
        """What was restored, as it is kept here."""
        return np.asarray(kept), np.asarray(pairs)


@functools.partial(jax.jit, static_argnames="mesh")
def _sum_matrices(counts: jax.Array, *, mesh: Mesh) -> jax.Array:
    """On every device: once an epoch, the only C x C reduction."""
    return jax.lax.with_sharding_constraint(counts.sum(axis=0), replicated(mesh))
