"""What stands between the last maps of a network and its heads, where a method puts something there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import jax
from flax import nnx

from cdml_jax.models.heads import Outputs
from cdml_jax.models.spec import Spec

if TYPE_CHECKING:
    from cdml_jax.models.network import Network


class Part(nnx.Module):
    """Base of the parts, which take the place of the pooling.

    Args:
      network: that it is put into, which is whole but for it.
      families: family of each class, or None.
      spec: of the network.
      rngs: keys of the initial parameters.

    Attributes:
      features: what the heads take of it.
      rates: by the beginning of a parameter's name, a factor of its learning rate, such as
        `{"part.localize": 1e-4}`; it multiplies `optimizer.head_multiplier`, which parts and heads have.
      stages: how many maps it reads: the last, and before it the last ones that are finer.
    """

    rates: ClassVar[Mapping[str, float]] = MappingProxyType({})
    stages: ClassVar[int] = 1
    features: int

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        self.dtype = spec.param_dtype

    def __call__(self, *maps: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features (batch, features) for the heads, and what terms read besides.

        Args:
          maps: `stages` of them, (batch, height, width, channels), the last one last.
          train: as the network's blocks take it.
        """
        raise NotImplementedError

    def predicted(self, outputs: Outputs, said: dict[str, jax.Array]) -> Outputs:
        """What the network predicts, from what its heads give and what else the part said: the former."""
        return outputs
