"""The feature maps of a network, which descriptors take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax

from cdml_jax.errors import UserError

if TYPE_CHECKING:
    from cdml_jax.models.network import Network


class FeatureMaps(NamedTuple):
    """What a network gives at each position of an image, (batch, height, width, channels) each.

    Attributes:
      last: what is pooled.
      earlier: of a layer before, in general twice as high and as wide.
    """

    last: jax.Array
    earlier: jax.Array


def feature_maps(network: Network, through: list[jax.Array]) -> FeatureMaps:
    """The map that a network pools, and the last one that is finer, by running statistics.

    Where no block makes it coarser, as in a vision transformer, `earlier` is what the last block takes.

    Args:
      network: its family says how by `finish`, `map_of` and `before_coarser`.
      through: what each block takes, and at the end what the last one gives.

    Raises:
      UserError: what is pooled is not a map.
    """
    last, coarser = _map(network, through[-1]), made_coarser(through)
    if not coarser:
        return FeatureMaps(last, _map(network, through[-2]))
    return FeatureMaps(last, network.before_coarser(coarser[-1], through[coarser[-1]]))


def made_coarser(through: list[jax.Array]) -> list[int]:
    """Which of successive maps are followed by one that is less high."""
    heights = [x.shape[1] for x in through]
    return [k for k in range(len(heights) - 1) if heights[k] > heights[k + 1]]


def _map(network: Network, x: jax.Array) -> jax.Array:
    found = network.map_of(network.finish(x, train=False))
    if found.ndim != 4:
        name = type(network).__name__
        raise UserError(f"{name}: its last block gives {found.shape}, not a map; define {name}.map_of")
    return found
