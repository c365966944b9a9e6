"""The object that the last map finds, seen again by the same network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.models.parts.crops import cut_out
from cdml_jax.models.parts.part import ImagePart, pooled_crops, side_for
from cdml_jax.models.spec import Spec
from cdml_jax.retrieval.descriptors import selected_positions

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

    from cdml_jax.models.network import Network


class ObjectCrop(ImagePart):
    r"""The mean of the features of an image and of its object, cut out and scaled to the image's size.

    .. math:: \tfrac 1 2 (f + f_1)

    The logits of a linear classifier are then the means of both. The object is where SCDA finds it: the box
    around the largest component of the positions of the last map whose activation exceeds the mean. It is
    found again by the network as it is at each step; where it lies has no gradient. No box and no new
    parameter is needed.

    Args:
      network: that looks twice.
      families: not used.
      spec: of the network.
      rngs: not used.

    Source: this library's, after the object level of Xiao et al., "The Application of Two-Level Attention
    Models in Deep Convolutional Neural Network for Fine-Grained Image Classification", CVPR 2015, and the
    boxes of Wei, Luo, Wu and Zhou, "Selective Convolutional Descriptor Aggregation", IEEE TIP 2017.
    """

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(network, families, spec, rngs=rngs)
        self.features = network.heads.classifier.in_features

    def look(
        self, network: Network, images: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of both, `map`, and `boxes` (batch, 4): top, left, bottom, right in pixels."""
        seen = network.seen(images, train=train)
        last, whole = network.map_of(seen), network.pool(seen, train=train).astype(self.dtype)
        height, width = images.shape[1:3]
        positions = selected_positions(jax.lax.stop_gradient(last))
        boxes = boxes_around(positions, (height, width)).astype(images.dtype)
        size = side_for(network, height), side_for(network, width)
        crops = cut_out(images, boxes[:, None], size)
        found = pooled_crops(network, crops, train=train)[:, 0].astype(self.dtype)
        return (whole + found) / 2, {"map": last, "boxes": boxes}


def boxes_around(
    masks: Bool[Array, "batch height width"], image: tuple[int, int]
) -> Float[Array, "batch four"]:
    """Top, left, bottom and right, in pixels of an image, of the box around each mask on its map.

    The mask is enlarged by the nearest position; one without a position has the whole image's box.

    >>> masks = jnp.zeros((2, 2, 4), bool).at[0, 0, 1].set(True)
    >>> boxes_around(masks, (20, 20)).tolist()
    [[0.0, 5.0, 10.0, 10.0], [0.0, 0.0, 20.0, 20.0]]
    """

    def ends(line: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        number = line.shape[1]
        first, last = jnp.argmax(line, axis=1), number - jnp.argmax(line[:, ::-1], axis=1)
        scale = np.float32(length / number)
        return first.astype(jnp.float32) * scale, last.astype(jnp.float32) * scale

    (top, bottom), (left, right) = ends(masks.any(axis=2), image[0]), ends(masks.any(axis=1), image[1])
    return jnp.concatenate([end[:, None] for end in (top, left, bottom, right)], axis=1)
