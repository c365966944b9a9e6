"""Crops that a network of its own places, after the spatial transformer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.models.layers import adaptive_mean_pool, conv
from cdml_jax.models.parts.crops import sampled
from cdml_jax.models.parts.part import ImagePart, pooled_crops, side_for
from cdml_jax.models.spec import Spec

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from cdml_jax.models.network import Network

SCALE = 0.5  # a crop's side over the image's; only its place is learned
LARGEST = 224  # pixels: of the crops, and of what the localization network sees
TILES = ((0.0, -0.5), (0.0, 0.5))  # the places (y, x) at the start: the left half and the right
GRID, WIDTH = 7, 128  # of the localization network


class SpatialTransformer(ImagePart):
    r"""The features of two crops of half the image's sides, one after the other.

    .. math:: (Y, X) = (s y + t_y, s x + t_x), \quad s = \tfrac 1 2, \quad -1 \le x, y \le 1

    of the image on [-1, 1], corners on corners, with the places t of both crops from one localization
    network: the same network up to its last map, a copy that then goes its own way. It sees the image at no
    more than 224 pixels, and the crops have as many; a crop of a larger image is a closer look. Places have
    their gradients from the bilinear samples. They are not bounded: where a crop leaves the image, it is 0.

    The localization network learns 1e-4 times as fast as the heads; the published factor is over the other
    networks. Both crops go through the one network in one batch, so batch norm takes its statistics over
    both **(ours)**: the paper has a network for each. There is no dropout **(ours)**.

    Args:
      network: that sees the crops, and that the localization network begins as.
      families: not used.
      spec: of the network.
      rngs: keys of the initial parameters.

    Source: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks", NIPS 2015, section
    4.3 and appendix A.3.
    """

    rates: ClassVar[Mapping[str, float]] = MappingProxyType({"part.localization": 1e-4})
    apart = ("part.localization",)

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(network, families, spec, rngs=rngs)
        self.features = len(TILES) * network.heads.classifier.in_features
        self.localization = Localization(network, spec, rngs=rngs)

    def look(
        self, network: Network, images: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of the crops, and `places` (batch, crops, 2), their middles: y and x from -1 to 1."""
        batch, height, width, channels = images.shape
        size = tuple(side_for(network, min(side, LARGEST)) for side in (height, width))
        small = images
        if size != (height, width):
            small = jax.image.resize(images, (batch, *size, channels), "linear", precision="highest")
        places = self.localization(small, train=train)

        def lines(number: int, length: int, middle: jax.Array) -> jax.Array:
            grid = jnp.asarray(np.linspace(-1, 1, number), images.dtype)
            return (SCALE * grid + middle[..., None] + 1) * ((length - 1) / 2)

        rows, columns = (
            lines(number, length, jax.lax.index_in_dim(places, axis, 2, keepdims=False).astype(images.dtype))
            for axis, (number, length) in enumerate(zip(size, (height, width)))
        )
        features = pooled_crops(network, sampled(images, rows, columns), train=train)
        return features.reshape(batch, self.features), {"places": places}


class Localization(nnx.Module):
    """Places (batch, crops, 2) from images: a network without its pooling, and three layers.

    A 1 x 1 convolution to 128 channels, a map of 7 x 7 (that of the published 224 pixels; others are averaged
    to it **(ours)**), a dense layer of 128, each with a ReLU, and a linear layer that begins as the tiles.
    """

    def __init__(self, network: Network, spec: Spec, *, rngs: nnx.Rngs):
        self.dtype = spec.param_dtype
        graph, state = nnx.split(network)
        self.trunk = nnx.merge(graph, jax.tree.map(jnp.copy, state))
        for name in ("heads", *network.pool_names):
            delattr(self.trunk, name)
        channels = network.map_channels
        self.reduction = conv(channels, WIDTH, 1, use_bias=True, spec=spec, rngs=rngs)
        self.dense = nnx.Linear(GRID * GRID * WIDTH, WIDTH, param_dtype=self.dtype, rngs=rngs)
        self.last = nnx.Linear(
            WIDTH,
            2 * len(TILES),
            kernel_init=nnx.initializers.zeros,
            bias_init=lambda key, shape, dtype: jnp.asarray(TILES, dtype).reshape(shape),
            param_dtype=self.dtype,
            rngs=rngs,
        )

    def __call__(
        self, images: Float[Array, "batch height width 3"], *, train: bool
    ) -> Float[Array, "batch crops 2"]:
        x = self.trunk.map_of(self.trunk.seen(images, train=train))
        x = adaptive_mean_pool(jax.nn.relu(self.reduction(x)), GRID).astype(self.dtype)
        x = jax.nn.relu(self.dense(x.reshape(x.shape[0], GRID * GRID * WIDTH)))
        return self.last(x).reshape(x.shape[0], len(TILES), 2)
