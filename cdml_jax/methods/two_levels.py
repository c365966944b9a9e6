"""Two label levels with attention: the family first, then the class where the family's state looks.

Source: Wei, Zhang, Liu, Shen and Wu, "Coarse-to-fine: A RNN-based hierarchical attention model for vehicle
re-identification", ACCV 2018. What the paper calls model and vehicle are family and class here.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure
from cdml_jax.methods.terms import CrossEntropy

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int


@dataclasses.dataclass(frozen=True)
class FamilyCrossEntropy(CrossEntropy):
    """Cross-entropy of the family by the first level of the head.

    Attributes:
      factor: its weight; that of the classes has 1 too.
      name: key of its weight, and of its value in the log.
      needs: scores of the families, and the family of each class.

    Source: Wei et al., ACCV 2018.
    """

    name: str = "family"
    needs: tuple[str, ...] = ("family_logits", "families")

    def own(self, labels: Int[Array, " rows"], real: Bool[Array, " rows"], needed: Any) -> Array:
        """The family of the class."""
        return needed["families"][jnp.where(real, labels, 0)]


STRUCTURE = Structure("two_levels", terms=(FamilyCrossEntropy(),), part="two_levels")
METHODS = {
    "two_levels": Method(
        "Two label levels with attention", "after Wei et al., ACCV 2018", structure=STRUCTURE
    ),
    "cdml_two_levels": dataclasses.replace(CDML, title="CDML on two label levels", structure=STRUCTURE),
}
