"""A head that names the family first and looks again where that says, after RNN-HA."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models.parts.part import Part
from cdml_jax.models.spec import Spec

if TYPE_CHECKING:
    from cdml_jax.models.network import Network

HIDDEN = 512  # the largest size of the recurrent state


class TwoLevels(Part):
    r"""A recurrent cell that reads the map twice: its mean, then where the first state attends.

    .. math:: h_1 = \mathrm{GRU}(\tfrac 1 P \sum_p F_p, 0), \quad
              a = \mathrm{softmax}_p(F_p \cdot Q h_1 / \sqrt N), \quad
              h_2 = \mathrm{GRU}(\textstyle\sum_p a_p F_p, h_1)

    for a map F of P positions and N channels. The family's logits are linear in h_1; h_2, of length
    min(N, 512), is what the heads take: class logits and embedding are of the second level.

    Args:
      network: has the map, of N channels.
      families: family of each class.
      spec: of the network.
      rngs: keys of the initial parameters.

    Raises:
      UserError: the classes have no families, or one alone.

    Source: Wei, Zhang, Liu, Shen and Wu, "Coarse-to-fine: A RNN-based hierarchical attention model for
    vehicle re-identification", ACCV 2018: the order of the two levels and the attention between them. The
    sizes, the softmax over positions and the scale of its scores are this library's.
    """

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        if families is None or len(set(families)) < 2:
            has = "no families" if families is None else "one family alone"
            raise UserError(
                f"two label levels need classes of several families, and this data set has {has}; take a set "
                "with families (docs/datasets.md), or another method"
            )
        super().__init__(network, families, spec, rngs=rngs)
        channels = network.map_channels
        self.features = min(channels, HIDDEN)
        self.families = families
        self.cell = nnx.GRUCell(channels, self.features, param_dtype=self.dtype, rngs=rngs)
        self.question = nnx.Linear(self.features, channels, use_bias=False, param_dtype=self.dtype, rngs=rngs)
        self.family = nnx.Linear(self.features, max(families) + 1, param_dtype=self.dtype, rngs=rngs)

    def __call__(self, *maps: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """h_2, and `family_logits` (batch, families) with `families` (classes,), the family of each class."""
        (feature_map,) = maps
        batch, _, _, channels = feature_map.shape
        places = feature_map.reshape(batch, -1, channels)
        first, _ = self.cell(
            jnp.zeros((batch, self.features), self.dtype), places.mean(axis=1, dtype=self.dtype)
        )
        question = self.question(first).astype(places.dtype) / math.sqrt(channels)
        scores = jnp.einsum("bpn,bn->bp", places, question, preferred_element_type=self.dtype)
        attention = jax.nn.softmax(scores).astype(places.dtype)
        seen = jnp.einsum("bp,bpn->bn", attention, places, preferred_element_type=self.dtype)
        second, _ = self.cell(first, seen)
        extras = {"family_logits": self.family(first), "families": jnp.asarray(self.families, jnp.int32)}
        return second, extras
