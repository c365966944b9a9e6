"""Each class's most frequent wrong answers alone, counted on each device and merged once an epoch."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from cdml_jax import confusion
from cdml_jax.confusion import TopConfusions, TopPairWeights, init_top
from cdml_jax.confusion.placing import compiled
from cdml_jax.confusion.top import merge_stacked
from cdml_jax.confusion.top_merging import Counters, merge_counters
from cdml_jax.distributed.mesh import DATA, replicated, split_rows
from cdml_jax.training.storage.parts import PairsOnEveryDevice, abstract, predictions_of, sum_of_places
from cdml_jax.training.storage.protocol import EpochCounts


@dataclasses.dataclass(frozen=True)
class Top(PairsOnEveryDevice):
    """`TopConfusions` of K counters a class for each place on "data"; `Storage` documents the methods."""

    k: int
    name = "top"
    whole_pairs = False

    def empty(self, dtype: Any) -> TopConfusions:
        """Empty counts, "data" first in every leaf."""
        one = init_top(self.num_classes, self.k, dtype)
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (self.places, *a.shape)), one)

    def shardings(self) -> Any:
        return TopConfusions(*(split_rows(self.mesh),) * 4)

    def add(
        self, counts: EpochCounts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool
    ) -> EpochCounts:
        """Each device adds its own rows to its own counters: nothing crosses devices."""
        rows = PartitionSpec(DATA)

        @functools.partial(jax.shard_map, mesh=self.mesh, in_specs=(rows,) * 4, out_specs=rows)
        def add(counts: Any, labels: jax.Array, logits: jax.Array, mask: jax.Array) -> Any:
            # A device's leaves are (1, …): its own counters are those without the first axis.
            own = jax.tree.map(lambda a: a[0], counts)
            own = confusion.update(own, labels, predictions_of(logits, soft), where=mask)
            return jax.tree.map(lambda a: a[None], own)

        return add(counts, batch["label"], logits, batch["mask"])

    def nothing(self) -> TopConfusions:
        return init_top(self.num_classes, self.k, jnp.float32).on_host()

    def total(self, counts: EpochCounts) -> TopConfusions:
        """Counters of all devices merged, on the host.

        Where the devices are this process's own processors, numpy merges them: it gives the same counters in
        a tenth of the time. Accelerators and several processes merge a share of the classes on each device,
        so that no host receives the counters of all devices.
        """
        indices, values, *sums = counts
        if values.is_fully_addressable and self.mesh.devices.flat[0].platform == "cpu":
            parts = [Counters(*part) for part in zip(np.asarray(indices), np.asarray(values))]
            sums = sum_of_places(sums, mesh=self.mesh)
            return TopConfusions(*merge_counters(parts, self.k), *map(np.asarray, sums))
        merge = compiled(merge_on_devices, replicated(self.mesh), ("mesh",))
        return merge(counts, mesh=self.mesh).on_host()

    def abstract_pairs(self) -> TopPairWeights:
        return self.abstract_kept(self.places)[1]

    def abstract_total(self) -> Any:
        return self.abstract_kept(self.places)[0]

    def abstract_kept(self, data: int) -> tuple[TopConfusions, TopPairWeights]:
        whole, classes = replicated(self.mesh), self.num_classes
        indices = abstract((classes, self.k), np.int32, whole)
        values = abstract((classes, self.k), np.float32, whole)
        each = abstract((classes,), np.float32, whole)
        return TopConfusions(indices, values, each, each), TopPairWeights(indices, values, each)

    def abstract_saved(self, counts: EpochCounts, data: int) -> Any:
        return jax.tree.map(lambda a: abstract((data, *a.shape[1:]), a.dtype, replicated(self.mesh)), counts)

    def moved(self, counts: EpochCounts) -> EpochCounts:
        """Counters of another number of places: merged, and given to the first."""

        def first_of(counts: TopConfusions) -> TopConfusions:
            merged = merge_stacked(counts)
            # The first of (data, …) leaves gets the merged counters, the others stay empty.
            return jax.tree.map(lambda empty, a: empty.at[0].set(a), self.empty(merged.dtype), merged)

        return jax.jit(first_of, out_shardings=self.shardings())(counts)

    def moved_kept(self, kept: Any, pairs: Any) -> tuple[TopConfusions, TopPairWeights]:
        return kept.on_host(), pairs.on_host()


def merge_on_devices(counts: TopConfusions, *, mesh: Mesh) -> TopConfusions:
    """An epoch's counters of all devices as one summary, whole on each of them; under jit."""

    def merge(counts: TopConfusions) -> TopConfusions:
        return jax.tree.map(lambda a: a[0], counts).reduced(DATA)

    merge = jax.shard_map(merge, mesh=mesh, in_specs=PartitionSpec(DATA), out_specs=PartitionSpec())
    return merge(counts)
