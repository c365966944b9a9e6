"""Online soft mining with class-aware attention, after Wang et al., alone and with confusion.

Source: Wang, Hua, Kodirov, Hu and Robertson, "Deep Metric Learning by Online Soft Mining and Class-Aware
Attention", AAAI 2019. The crosses with confusion are this library's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.facts import ones, uniform
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import EMBEDDING, GATHER, Structure
from cdml_jax.regularizers import class_aware_attention, soft_mined_contrastive_loss

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class SoftMining:
    """The weighted contrastive loss of all pairs of a microbatch, with λ = 1/2.

    What a ratio of sums divides by is known after the network has run alone: each microbatch gives its ratio,
    and their mean is the term. So microbatches are part of what is computed, as they are of batch norm.

    Attributes:
      sigma: σ of the weights of pairs of one class.
      margin: α, beyond which pairs of two classes count no more.
      width: ρ of the attention.
      factor: weight of the term; the softmax has 1 too.
      name: key of its weight, and of its value in the log.
      needs: all rows on every device, B D numbers gathered once.
      trains: its gradient is of the embedding.

    Source: Wang et al., AAAI 2019.
    """

    sigma: float = 0.8
    margin: float = 1.2
    width: float = 0.68
    factor: float = 1.0
    name: str = "soft_mining"
    needs: tuple[str, ...] = (GATHER,)
    trains: str = EMBEDDING

    def weight(self, num_classes: int) -> float:
        """The same for any number of classes."""
        return self.factor

    def prepare(self, labels: Int[Array, "parts rows"], draw: Callable[..., Any]) -> Array:
        """Which rows count."""
        return labels >= 0

    def count(self, prepared: Bool[Array, "parts rows"]) -> Int[Array, ""]:
        """Microbatches."""
        return jnp.int32(prepared.shape[0])

    def __call__(
        self,
        logits: Float[Array, "rows classes"],
        embeddings: Float[Array, "rows size"],
        labels: Int[Array, " rows"],
        prepared: Bool[Array, " rows"],
        **needed: Any,
    ) -> Float[Array, ""]:
        """The microbatch's ratio."""
        gather = needed[GATHER]
        attention = gather(class_aware_attention(logits, labels, width=self.width))
        return soft_mined_contrastive_loss(
            gather(embeddings), labels, attention, sigma=self.sigma, margin=self.margin, where=prepared
        )


_SOURCE = "after Wang et al., AAAI 2019"
STRUCTURE = Structure("soft_mining", terms=(SoftMining(),))
SOFT_MINING = Method(
    "Online soft mining",
    _SOURCE,
    pair_weights=uniform,
    group_weights=ones,
    composed=True,
    structure=STRUCTURE,
)
METHODS = {
    "soft_mining": SOFT_MINING,
    "confused_soft_mining": Method(
        "Online soft mining of confused classes", _SOURCE, composed=True, structure=STRUCTURE
    ),
    "cdml_soft_mining": dataclasses.replace(CDML, title="CDML on online soft mining", structure=STRUCTURE),
}
