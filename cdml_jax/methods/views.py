"""What a method makes of a batch's images on the device, before they enter the network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from cdml_jax.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Array, PRNGKeyArray, UInt8


def jigsaw(
    images: UInt8[Array, "batch height width 3"], key: PRNGKeyArray, *, side: int
) -> UInt8[Array, "batch height width 3"]:
    """Images cut into side x side blocks that change places, the same for the whole batch.

    All permutations are as likely; the authors' code draws cycles through all blocks alone.

    Raises:
      UserError: `side` does not divide the images' height and width.

    Source: Du et al., ECCV 2020.
    """
    batch, height, width, channels = images.shape
    if height % side or width % side:
        raise UserError(
            f"image.image_size: images of {height} x {width} pixels cannot be cut into {side} x {side} equal "
            f"blocks; take a multiple of {side}"
        )
    blocks = images.reshape(batch, side, height // side, side, width // side, channels)
    blocks = blocks.swapaxes(2, 3).reshape(batch, side * side, height // side, width // side, channels)
    blocks = blocks[:, jax.random.permutation(key, side * side)]
    blocks = blocks.reshape(batch, side, side, height // side, width // side, channels)
    return blocks.swapaxes(2, 3).reshape(images.shape)


VIEWS: dict[str, Callable[..., Any]] = {
    f"jigsaw{side}": functools.partial(jigsaw, side=side) for side in (8, 4, 2)
}
