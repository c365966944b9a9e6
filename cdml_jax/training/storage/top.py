"""Each class's most frequent wrong answers alone, counted on each device and merged once an epoch."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from cdml_jax import confusion, top_confusions
from cdml_jax.sampling import Triplets
from cdml_jax.top_confusions import TopConfusions, TopPairWeights
from cdml_jax.training.mesh import DATA, by_row, put_replicated, replicated
from cdml_jax.training.storage.parts import (
    Counts,
    PairWeights,
    abstract,
    compiled,
    draw_parts,
    predictions_of,
)


@dataclasses.dataclass(frozen=True)
class Top:
    """`TopConfusions` of K counters a class for each place on "data"."""

    mesh: Mesh
    num_classes: int
    k: int
    name = "top"
    whole_pairs = False

    def empty(self, dtype: Any) -> Counts:
        """Counts of no image, "data" first in every leaf."""
        one = top_confusions.init_top(self.num_classes, self.k, dtype)
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (self.mesh.shape[DATA], *a.shape)), one)

    def shardings(self) -> Any:
        """Of the leaves of the counts."""
        return TopConfusions(*(by_row(self.mesh),) * 4)

    def add(self, counts: Counts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool) -> Counts:
        """Each device adds its own rows to its own counters: nothing crosses devices."""
        rows = PartitionSpec(DATA)

        @functools.partial(jax.shard_map, mesh=self.mesh, in_specs=(rows,) * 4, out_specs=rows)
        def add(counts, labels, logits, mask):
            own = jax.tree.map(lambda a: a[0], counts)
            own = confusion.update(own, labels, predictions_of(logits, soft), where=mask)
            return jax.tree.map(lambda a: a[None], own)

        return add(counts, batch["label"], logits, batch["mask"])

    def total(self, counts: Counts) -> Counts:
        """Counters of all devices merged, on the host."""
        merge = compiled(_merge_counters, replicated(self.mesh), ("mesh",))
        return jax.tree.map(np.asarray, merge(counts, mesh=self.mesh))

    def nothing(self) -> Counts:
        """What is kept over epochs before the first: float32."""
        none = top_confusions.init_top(self.num_classes, self.k, jnp.float32)
        return jax.tree.map(np.asarray, none)

    def keep(self, kept: Counts, decay: float, total: Counts) -> Counts:
        """What is kept, with decay, and an epoch's counts, merged."""
        return jax.tree.map(np.asarray, _merge_decayed(kept, decay, total))

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights as the step takes them."""
        return put_replicated(self.mesh, pairs)

    def draw(self, keys: jax.Array, labels: jax.Array, pairs: PairWeights, *, num_triplets: int) -> Triplets:
        """Triplets of each microbatch."""
        return draw_parts(keys, labels, pairs, num_triplets=num_triplets)

    def abstract_kept(self, data: int) -> tuple[Counts, PairWeights]:
        """What is kept and the pair weights, as saved with `data` places, for a restore here."""
        whole, classes = replicated(self.mesh), self.num_classes
        indices = abstract((classes, self.k), np.int32, whole)
        values = abstract((classes, self.k), np.float32, whole)
        each = abstract((classes,), np.float32, whole)
        return TopConfusions(indices, values, each, each), TopPairWeights(indices, values, each)

    def abstract_total(self) -> Counts:
        """What `total` makes on each device."""
        return self.abstract_kept(self.mesh.shape[DATA])[0]

    def abstract_saved(self, counts: Counts, data: int) -> Counts:
        """Counts of an epoch as saved with `data` places, given those of here."""
        return jax.tree.map(lambda a: abstract((data, *a.shape[1:]), a.dtype, replicated(self.mesh)), counts)

    def moved(self, counts: Counts) -> Counts:
        """Counters of another number of places: merged, and given to the first."""

        def first_of(counts):
            merged = top_confusions.merge_stacked(counts)
            return jax.tree.map(lambda empty, a: empty.at[0].set(a), self.empty(merged.values.dtype), merged)

        return jax.jit(first_of, out_shardings=self.shardings())(counts)

    def moved_kept(self, kept: Counts, pairs: PairWeights) -> tuple[Counts, PairWeights]:
        """What was restored, as it is kept here."""
        return jax.tree.map(np.asarray, kept), jax.tree.map(np.asarray, pairs)


def _merge_counters(counts: TopConfusions, *, mesh: Mesh) -> TopConfusions:
    def merge(counts):
        return top_confusions.reduce_top(jax.tree.map(lambda a: a[0], counts), DATA)

    merge = jax.shard_map(merge, mesh=mesh, in_specs=PartitionSpec(DATA), out_specs=PartitionSpec())
    return merge(counts)


@jax.jit
def _merge_decayed(kept: TopConfusions, decay: jax.Array, total: TopConfusions) -> TopConfusions:
    return top_confusions.merge(
        top_confusions.decayed(kept, decay), top_confusions.decayed(total, jnp.float32(1))
    )
