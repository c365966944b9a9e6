"""What stands before the heads of a network, where a method puts something there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import jax
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models.heads import Outputs
from cdml_jax.models.spec import Spec

if TYPE_CHECKING:
    from cdml_jax.models.network import Network


class Part(nnx.Module):
    """Base of the parts, which take the place of the pooling or, as an `ImagePart`, look at images.

    Args:
      network: that it is put into, which is whole but for it.
      families: family of each class, or None.
      spec: of the network.
      rngs: keys of the initial parameters.

    Attributes:
      features: what the heads take of it.
      rates: by the beginning of a parameter's name, a factor of its learning rate, such as
        `{"part.localize": 1e-4}`; it multiplies `optimizer.head_multiplier`, which parts and heads have.
      apart: beginnings of the names of parameters whose gradients are clipped by themselves: they are large
        and of another kind than the network's.
      stages: how many maps it reads: the last, and before it the last ones that are finer.
    """

    rates: ClassVar[Mapping[str, float]] = MappingProxyType({})
    apart: ClassVar[tuple[str, ...]] = ()
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


class ImagePart(Part):
    """Base of the parts that look at images, and at crops of them, by the network's own blocks and pooling.

    Crops go through the network as one batch, so batch norm takes its statistics over all of them.
    """

    def look(
        self, network: Network, images: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features (batch, features) for the heads, and what terms read besides.

        Args:
          network: that the part belongs to: `seen`, `map_of`, `pool` and `front` are its own.
          images: (batch, height, width, 3) in [-1, 1].
          train: as the network's blocks take it.
        """
        raise NotImplementedError


def pooled_crops(network: Network, crops: jax.Array, *, train: bool) -> jax.Array:
    """The network's pooled features (batch, crops, features) of crops (batch, crops, height, width, 3)."""
    batch, number, *shape = crops.shape
    flat = crops.reshape(batch * number, *shape)
    features = network.front(flat, len(network.blocks) + 1, train=train)
    return features.reshape(batch, number, features.shape[-1])


def side_for(network: Network, side: float) -> int:
    """The largest side of crops up to `side` that the network takes.

    Raises:
      UserError: it takes none so small.
    """
    found = int(side) // network.patch * network.patch
    if not found:
        raise UserError(
            f"image.image_size: crops of {side:g} pixels are smaller than the network's patches of "
            f"{network.patch}; take larger images"
        )
    return found


def source_of(name: str) -> str:
    """The parameter that another one begins as: a part's `trunk` begins as the network that it is put into.

    >>> source_of("part.localization.trunk.stem.kernel"), source_of("part.dense.bias")
    ('stem.kernel', 'part.dense.bias')
    """
    names = name.split(".")
    if "part" not in names or "trunk" not in names:
        return name
    return ".".join(names[: names.index("part")] + names[names.index("trunk") + 1 :])
