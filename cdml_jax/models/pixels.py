"""How pixels enter a network: bytes to [-1, 1], and from there to what its weights expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from cdml_jax.models.spec import Convention

if TYPE_CHECKING:
    from jaxtyping import Array, Float, UInt8


def normalize_images(images: UInt8[Array, "*shape"], dtype: Any = jnp.float32) -> Float[Array, "*shape"]:
    """Bytes to [-1, 1], what every network takes: x / 127.5 - 1.

    >>> normalize_images(jnp.array([0, 255], jnp.uint8)).tolist()
    [-1.0, 1.0]
    """
    return images.astype(dtype) / 127.5 - 1


def scale_input(
    images: Float[Array, "batch height width 3"], convention: Convention
) -> Float[Array, "batch height width 3"]:
    """Images in [-1, 1] as the convention wants them: (x / 2 + 1/2 - mean) / std by channel.

    As one product and one sum, x a + b, with a = 1 / (2 std) and b = (1/2 - mean) / std.
    """
    scale = [0.5 / std for std in convention.std]
    shift = [(0.5 - mean) / std for mean, std in zip(convention.mean, convention.std)]
    return images * jnp.asarray(scale, images.dtype) + jnp.asarray(shift, images.dtype)
