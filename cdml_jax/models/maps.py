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


def feature_maps(network: Network, images: jax.Array) -> FeatureMaps:
    """The map that a network pools, and the last one that is finer, by running statistics.

    Where no block makes it coarser, as in a vision transformer, `earlier` is what the last block takes.

    Args:
      network: its family says how by `finish`, `map_of` and `before_coarser`.
      images: (batch, side, side, 3) in [-1, 1].

    Raises:
      UserError: what is pooled is not a map.
    """
    through = [network.enter(images, train=False)]
    for block in network.blocks:
        through.append(block(through[-1], train=False))
    last = _map(network, through[-1])
    heights = [x.shape[1] for x in through]
    coarser = [k for k in range(len(network.blocks)) if heights[k] > heights[k + 1]]
    if not coarser:
        return FeatureMaps(last, _map(network, through[-2]))
    return FeatureMaps(last, network.before_coarser(coarser[-1], through[coarser[-1]]))


def _map(network: Network, x: jax.Array) -> jax.Array:
    found = network.map_of(network.finish(x, train=False))
    if found.ndim != 4:
        name = type(network).__name__
        raise UserError(f"{name}: its last block gives {found.shape}, not a map; define {name}.map_of")
    return found
