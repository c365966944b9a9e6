"""NTS-Net: regions that a navigator proposes, a teacher judges and a scrutinizer joins to the image.

Source: Yang, Luo, Wang, Hu, Gao and Wang, "Learning to Navigate for Fine-grained Classification", ECCV 2018.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure
from cdml_jax.methods.terms import CrossEntropy, OfRows, cross_entropies

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def ranking_loss(
    scores: Float[Array, "batch crops"], errors: Float[Array, "batch crops"]
) -> Float[Array, " batch"]:
    r"""How far crops are from being scored in the order of their cross-entropies, by a margin of 1.

    .. math:: \sum_{(i, s):\ e_i > e_s} \max(0, 1 - (I_s - I_i))

    Args:
      scores: I, of the navigator; the gradient is by these alone.
      errors: e, cross-entropy of each crop.

    >>> ranking_loss(jnp.array([[0.2, 0.5, -0.1]]), jnp.array([[1.0, 0.3, 2.0]])).round(4).tolist()
    [1.7999999523162842]

    Source: Yang et al., ECCV 2018; the margin of 1 as in the authors' code.
    """
    worse = errors[:, :, None] > errors[:, None, :]  # (batch, i, s)
    short = jax.nn.relu(1 - (scores[:, None, :] - scores[:, :, None]))
    return jnp.where(worse, short, 0).sum((1, 2))


@dataclasses.dataclass(frozen=True)
class Ranking(OfRows):
    """`ranking_loss` of the navigator's scores by the teacher's cross-entropies.

    Attributes:
      factor: its weight; that of the other terms has 1 too.
      name: key of its weight, and of its value in the log.
      needs: scores of the classes for each crop, and the navigator's scores of the crops.
    """

    name: str = "ranking"
    needs: tuple[str, ...] = ("crop_logits", "crop_scores")

    def __call__(
        self,
        logits: Float[Array, "rows classes"],
        embeddings: Float[Array, "rows size"],
        labels: Int[Array, " rows"],
        prepared: Array,
        **needed: Array,
    ) -> Float[Array, ""]:
        """Σ over the rows."""
        errors = cross_entropies(jax.lax.stop_gradient(needed["crop_logits"]), labels, prepared)
        scores = jnp.where(prepared[:, None], needed["crop_scores"], 0)
        return ranking_loss(scores, errors).sum()


# The whole image by a classifier of its own, and what the teacher learns from.
WHOLE = CrossEntropy(name="whole", needs=("whole_logits",))
CROPS = CrossEntropy(name="crops", needs=("crop_logits",))
STRUCTURE = Structure("nts_net", terms=(WHOLE, CROPS, Ranking()), part="nts_net")
METHODS = {
    "nts_net": Method("NTS-Net", "Yang et al., ECCV 2018", structure=STRUCTURE),
    "cdml_nts_net": dataclasses.replace(CDML, title="CDML on NTS-Net", structure=STRUCTURE),
}
