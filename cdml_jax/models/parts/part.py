"""What stands between the last map of a network and its heads, where a method puts something there."""

from __future__ import annotations

import jax
from flax import nnx


class Part(nnx.Module):
    """Base of the parts, which take the place of the pooling.

    Attributes:
      features: what the heads take of it.
    """

    features: int

    def __call__(self, feature_map: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features (batch, features) for the heads, and what terms read besides.

        Args:
          feature_map: the last map, (batch, height, width, channels).
          train: as the network's blocks take it.
        """
        raise NotImplementedError
