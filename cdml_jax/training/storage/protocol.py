"""What the step, the loop and the checkpoints ask of a storage of counts and pair weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import jax
from jax.sharding import Mesh

from cdml_jax.confusion import Confusion, PairWeights, TopConfusions
from cdml_jax.sampling.triplets import Drawn, Sample

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# Counts of an epoch in progress, as a storage lays them over the devices. Only the storage that made them
# reads them; its `total` makes a `Confusion` of them.
EpochCounts: TypeAlias = jax.Array | TopConfusions


class Storage(Protocol):
    """How counts and pair weights lie on the devices of a mesh, and on disk."""

    @property
    def name(self) -> str:
        """The value of `confusion.storage` that asks for it."""

    @property
    def mesh(self) -> Mesh:
        """The devices."""

    @property
    def num_classes(self) -> int:
        """C."""

    @property
    def whole_pairs(self) -> bool:
        """Whether each device holds the weights of all pairs as a matrix."""

    # In the step.

    def empty(self, dtype: Any) -> EpochCounts:
        """Counts of an epoch before its first step; under jit."""

    def shardings(self) -> Any:
        """Sharding of each leaf of an epoch's counts."""

    def add(
        self,
        counts: EpochCounts,
        batch: dict[str, jax.Array],
        logits: Float[Array, "batch classes"],
        *,
        soft: bool,
    ) -> EpochCounts:
        """An epoch's counts with a batch added; under jit.

        Args:
          counts: of the epoch so far.
          batch: `label` (batch,) and `mask` (batch,), split over "data".
          logits: split over "data", their columns over "model".
          soft: whether probabilities are added, or the predicted classes.
        """

    def draw(
        self,
        keys: jax.Array,
        labels: Int[Array, "parts rows"],
        pairs: PairWeights,
        sample: Sample[Drawn],
    ) -> Drawn:
        """What is drawn of each microbatch, its leaves (parts, …); under jit.

        Args:
          keys: one for each microbatch.
          labels: whole on every device, −1 where a row does not count.
          pairs: as `put_pairs` gives.
          sample: such as `sample_triplets` with its number of triplets bound.
        """

    # Between epochs.

    def nothing(self) -> Confusion:
        """The confusion that is kept over epochs, before the first: float32."""

    def total(self, counts: EpochCounts) -> Confusion:
        """An epoch's counts of all devices: on the host, or where they are if they are split by class."""

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights, as `Confusion.statistics` gives them, placed as the step takes them."""

    def abstract_pairs(self) -> PairWeights:
        """Shapes, dtypes and shardings of what `put_pairs` gives, for a compilation without any."""

    def abstract_total(self) -> Any:
        """Shapes, dtypes and shardings of what `total` makes on the devices besides the counts."""

    # In a checkpoint, which may have been saved with another number of places on "data".

    def abstract_kept(self, data: int) -> tuple[Any, Any]:
        """Arrays of the kept confusion and pair weights as saved with `data` places, for a restore here."""

    def abstract_saved(self, counts: EpochCounts, data: int) -> Any:
        """Counts of an epoch as saved with `data` places, for a restore here, given those of here."""

    def moved(self, counts: EpochCounts) -> EpochCounts:
        """Counts of an epoch that were saved with another number of places, laid out for this one."""

    def moved_kept(self, kept: Any, pairs: Any) -> tuple[Confusion, PairWeights]:
        """The arrays that were restored, as the forms that are used here."""
