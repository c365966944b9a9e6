"""Crops of images on the device: bilinear samples on a grid of rows and columns, and boxes of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def sampled(
    images: Float[Array, "batch height width channels"],
    rows: Float[Array, "batch crops above"],
    columns: Float[Array, "batch crops across"],
) -> Float[Array, "batch crops above across channels"]:
    r"""Images between their pixels, at every row and column of a crop; outside an image all is 0.

    .. math:: V_{ij} = \sum_{r, c} U_{rc} \max(0, 1 - |Y_i - r|) \max(0, 1 - |X_j - c|)

    as two matrix products, which are differentiated by images, rows and columns alike. The first takes as
    many products as a crop has rows times the image's numbers.

    Args:
      images: U.
      rows: Y, in pixels; 0 is the centre of the first.
      columns: X, likewise.

    >>> image = jnp.array([[0.0, 1.0], [2.0, 3.0]])[None, :, :, None]
    >>> sampled(image, jnp.array([[[0.75]]]), jnp.array([[[0.25, 2.0]]])).ravel().tolist()
    [1.75, 0.0]

    Source: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks", NIPS 2015,
    equation 5.
    """
    above = _weights(rows, images.shape[1], images.dtype)
    across = _weights(columns, images.shape[2], images.dtype)
    strips = jnp.einsum("bnir,brwc->bniwc", above, images, precision="highest")
    return jnp.einsum("bnjw,bniwc->bnijc", across, strips, precision="highest")


def cut_out(
    images: Float[Array, "batch height width channels"],
    boxes: Float[Array, "batch crops four"],
    size: tuple[int, int],
) -> Float[Array, "batch crops above across channels"]:
    """What boxes hold, each scaled to one size: the first and the last pixel stay the first and the last.

    Args:
      images: any.
      boxes: top, left, bottom and right in pixels, bottom and right excluded; they may reach beyond the
        image, where all is 0.
      size: height and width of the crops.
    """

    def places(first: jax.Array, beyond: jax.Array, number: int) -> jax.Array:
        shares = np.linspace(0, 1, number) if number > 1 else np.array([0.5])
        return first[..., None] + (beyond - 1 - first)[..., None] * jnp.asarray(shares, boxes.dtype)

    top, left, bottom, right = (jax.lax.index_in_dim(boxes, k, 2, keepdims=False) for k in range(4))
    return sampled(images, places(top, bottom, size[0]), places(left, right, size[1]))


def _weights(places: jax.Array, number: int, dtype: jnp.dtype) -> jax.Array:
    """max(0, 1 − |place − k|) for each pixel k of a line.

    By the pixel before, so that at a pixel too there is a derivative, that towards the next one.
    """
    before = jnp.floor(jax.lax.stop_gradient(places))[..., None]
    share = places[..., None] - before
    pixels = jnp.arange(number, dtype=places.dtype)
    return jnp.where(pixels == before, 1 - share, jnp.where(pixels == before + 1, share, 0)).astype(dtype)
