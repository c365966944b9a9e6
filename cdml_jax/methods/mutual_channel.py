"""Mutual-channel loss on the channels of the network's own last map, alone and with CDML's costs.

Source: Chang, Ding, Xie, Bhunia, Li, Ma, Wu, Guo and Song, "The Devil is in the Channels: Mutual-Channel Loss
for Fine-Grained Image Classification", IEEE TIP 2020.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure
from cdml_jax.regularizers import mutual_channel_loss

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32


class _Prepared(NamedTuple):
    """The key of the step's mask, the same for all microbatches, and which rows count."""

    key: UInt32[Array, "parts words"]
    real: Bool[Array, "parts rows"]


@dataclasses.dataclass(frozen=True)
class MutualChannel:
    """Discriminality − λ diversity of the channels of each class, summed over the rows.

    Attributes:
      diversity: λ, of the paper.
      factor: μ, the weight of both, of the paper. The authors' own log of CUB has a tenth of it.
      name: key of its weight, and of its value in the log.
      needs: the last map.

    Source: Chang et al., IEEE TIP 2020.
    """

    diversity: float = 10.0
    factor: float = 0.005
    name: str = "mutual_channel"
    needs: tuple[str, ...] = ("map",)

    def weight(self, num_classes: int) -> float:
        """μ."""
        return self.factor

    def refusal(self, num_classes: int, shapes: dict[str, tuple[int, ...]]) -> str:
        """Whether each class can own two channels."""
        channels = shapes["map"][-1]
        if channels >= 2 * num_classes:
            return ""
        return (
            f"each class owns two channels of the last map or more, and of its {channels} there are too few "
            f"for {num_classes} classes; take a network of {2 * num_classes} channels, or another method"
        )

    def prepare(self, labels: Int[Array, "parts rows"], draw: Callable[..., Any]) -> _Prepared:
        """One mask for a step: microbatches share the key that is drawn for the first."""

        def key_alone(key: PRNGKeyArray, labels: Any, pair_weights: Any, *, where: Any = None) -> Array:
            return jax.random.key_data(key)

        keys = draw(key_alone)
        return _Prepared(jnp.broadcast_to(keys[:1], keys.shape), labels >= 0)

    def count(self, prepared: _Prepared) -> Int[Array, ""]:
        """Real rows."""
        return prepared.real.sum(dtype=jnp.int32)

    def __call__(
        self,
        logits: Float[Array, "rows classes"],
        embeddings: Float[Array, "rows size"],
        labels: Int[Array, " rows"],
        prepared: _Prepared,
        **needed: Float[Array, "rows height width channels"],
    ) -> Float[Array, ""]:
        """Σ (discriminality − λ diversity)."""
        discriminality, diversity = mutual_channel_loss(
            jax.random.wrap_key_data(prepared.key),
            needed["map"],
            labels,
            num_classes=logits.shape[1],
            where=prepared.real,
        )
        return (discriminality - self.diversity * diversity).sum()


STRUCTURE = Structure("mutual_channel", terms=(MutualChannel(),))
METHODS = {
    "mutual_channel": Method("Mutual-channel loss", "Chang et al., IEEE TIP 2020", structure=STRUCTURE),
    "cdml_mutual_channel": dataclasses.replace(
        CDML, title="CDML on mutual-channel loss", structure=STRUCTURE
    ),
}
