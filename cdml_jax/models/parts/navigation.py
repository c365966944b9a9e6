"""Regions that the network proposes and looks at again, after NTS-Net."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.models.layers import conv
from cdml_jax.models.parts.crops import cut_out
from cdml_jax.models.parts.part import ImagePart, pooled_crops, side_for
from cdml_jax.models.spec import Spec

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int

    from cdml_jax.models.network import Network

CROPS, KEPT = 6, 4  # regions that are looked at in training, and those of which features are kept
OVERLAP = 0.25  # intersection over union from which on a region is too near a better one
WIDTH = 128  # channels of the navigator
SIDE = 448  # of the images for which the published boxes are so many pixels:
BASES = (48, 96, 192)  # sides of the boxes of the three levels, times a power of 2 ^ (1/3),
POWERS = ((1, 2), (1, 2), (0, 1, 2))
RATIOS = (0.667, 1.0, 1.5)  # and as wide as high, times this


class Navigation(ImagePart):
    r"""The features of an image and of the four regions that a navigator finds most informative.

    Every position of the last map and of two coarser ones has boxes of several sizes and shapes, and the
    navigator scores each: three 3 x 3 convolutions with ReLU, the second and third of stride 2, and a 1 x 1
    convolution on each. The six best that do not overlap are cut out, scaled to half the image's side and
    seen by the same network. The heads take

    .. math:: [f_1, f_2, f_3, f_4, f]

    of the four best crops and the whole image. Terms read the scores of the six, what one classifier says of
    each of their features, and what another says of f. The navigator learns from its scores alone: the map
    reaches it, no gradient goes back, and where crops lie has no gradient. At inference four crops are seen.

    At 448 pixels with a map of 14 x 14 the boxes are the published 1,614. Of other images they are the same
    shares of the sides **(ours)**; as everywhere here there is no dropout **(ours)**.

    Args:
      network: that looks.
      families: not used.
      spec: of the network.
      rngs: keys of the initial parameters.

    Source: Yang, Luo, Wang, Hu, Gao and Wang, "Learning to Navigate for Fine-grained Classification", ECCV
    2018, and the authors' code.
    """

    apart = ("part.navigator",)  # six crops have a ranking loss of about 15

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(network, families, spec, rngs=rngs)
        pooled = network.heads.classifier.in_features
        self.features = (KEPT + 1) * pooled
        self.navigator = Navigator(network.map_channels, spec, rngs=rngs)
        self.whole, self.crop = (
            nnx.Linear(pooled, spec.num_classes, param_dtype=self.dtype, rngs=rngs) for _ in range(2)
        )

    def look(
        self, network: Network, images: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of crops and image, and `map`, `whole_logits` (batch, classes), `crop_logits` (batch,
        crops, classes) and `crop_scores` (batch, crops), the best crop first.
        """
        seen = network.seen(images, train=train)
        last, whole = network.map_of(seen), network.pool(seen, train=train).astype(self.dtype)
        scores = self.navigator(jax.lax.stop_gradient(last))
        height, width = images.shape[1:3]
        boxes = proposed_boxes((height, width), (last.shape[1], last.shape[2]))
        best = best_apart(jax.lax.stop_gradient(scores), boxes, CROPS if train else KEPT)
        size = side_for(network, height / 2), side_for(network, width / 2)
        crops = cut_out(images, jnp.asarray(boxes, images.dtype)[best], size)
        found = pooled_crops(network, crops, train=train).astype(self.dtype)
        kept = found[:, :KEPT].reshape(found.shape[0], KEPT * found.shape[2])
        said = {
            "map": last,
            "whole_logits": self.whole(whole),
            "crop_logits": self.crop(found),
            "crop_scores": jnp.take_along_axis(scores, best, axis=1),
        }
        return jnp.concatenate([kept, whole], axis=1), said


class Navigator(nnx.Module):
    """Scores (batch, boxes) of `proposed_boxes`, from the last map."""

    def __init__(self, channels: int, spec: Spec, *, rngs: nnx.Rngs):
        self.dtype = spec.param_dtype

        def layer(inputs: int, outputs: int, size: int, stride: int = 1) -> nnx.Conv:
            around = ((size // 2, size // 2),) * 2
            return conv(
                inputs, outputs, size, stride=stride, padding=around, use_bias=True, spec=spec, rngs=rngs
            )

        self.down = nnx.List(
            [layer(channels if stride == 1 else WIDTH, WIDTH, 3, stride) for stride in (1, 2, 2)]
        )
        self.scores = nnx.List([layer(WIDTH, len(powers) * len(RATIOS), 1) for powers in POWERS])

    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch boxes"]:
        found = []
        for down, scores in zip(self.down, self.scores):
            x = jax.nn.relu(down(x))
            level = scores(x)
            found.append(level.reshape(level.shape[0], level.shape[1] * level.shape[2] * level.shape[3]))
        return jnp.concatenate(found, axis=1).astype(self.dtype)


def proposed_boxes(image: tuple[int, int], last: tuple[int, int]) -> Float[np.ndarray, "boxes four"]:
    """Top, left, bottom and right of each box in whole pixels, bottom and right excluded, float32.

    Level by level, position by position row by row; they may reach beyond the image.

    Args:
      image: its height and width in pixels.
      last: height and width of the last map.

    >>> len(proposed_boxes((448, 448), (14, 14)))
    1614
    """
    levels, cells = [], last
    for level, (base, powers) in enumerate(zip(BASES, POWERS)):
        strides = [2**level * side / positions for side, positions in zip(image, last)]
        shapes = [
            (base * 2 ** (power / 3) / ratio**0.5, base * 2 ** (power / 3) * ratio**0.5)
            for power, ratio in itertools.product(powers, RATIOS)
        ]
        centres = [stride * (np.arange(number) + 0.5) for stride, number in zip(strides, cells)]
        middle = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)[:, :, None]
        sides = np.array(shapes) * np.array(image) / SIDE
        boxes = np.concatenate([middle - sides / 2, middle + sides / 2], axis=-1)
        levels.append(np.floor(boxes).reshape(-1, 4))
        cells = (-(-cells[0] // 2), -(-cells[1] // 2))
    return np.concatenate(levels).astype(np.float32)


def best_apart(
    scores: Float[Array, "batch boxes"], boxes: Float[ArrayLike, "boxes four"], number: int
) -> Int[Array, "batch number"]:
    """The boxes of the highest scores, each of which overlaps no better one by 0.25 or more.

    The best is taken, those that overlap it are left out, and so on, `number` times: hard suppression of
    non-maxima, in a fixed shape. Where none is left, the best that was not taken follows **(ours)**.

    Args:
      scores: of each image.
      boxes: top, left, bottom, right; the same for all images.
      number: how many, no more than there are boxes.

    >>> boxes = np.float32([[0, 0, 10, 10], [1, 1, 11, 11], [8, 0, 18, 10]])
    >>> best_apart(jnp.array([[0.2, 0.3, 0.1], [0.3, 0.2, 0.1]]), boxes, 2).tolist()
    [[1, 2], [0, 2]]
    """
    table = jnp.asarray(boxes)
    every = jnp.arange(table.shape[0], dtype=jnp.int32)
    free = jnp.ones(scores.shape, bool)
    taken = ~free
    found = []
    for _ in range(number):
        allowed = free | ~(taken | free.any(axis=1, keepdims=True))
        best = jnp.argmax(jnp.where(allowed, scores, -jnp.inf), axis=1).astype(jnp.int32)
        found.append(best[:, None])
        taken = taken | (every == best[:, None])
        free = free & ~taken & (overlap(table[best][:, None], table[None]) < OVERLAP)
    return jnp.concatenate(found, axis=1)


def overlap(one: Float[Array, "*boxes four"], other: Float[Array, "*others four"]) -> Float[Array, "*shape"]:
    """Intersection over union of boxes.

    >>> overlap(jnp.array([0.0, 0, 10, 10]), jnp.array([[1.0, 1, 11, 11], [0, 8, 10, 18]])).round(4).tolist()
    [0.6807000041007996, 0.11109999567270279]
    """

    def area(low: jax.Array, high: jax.Array) -> jax.Array:
        sides = jax.nn.relu(high - low)
        return sides[..., 0] * sides[..., 1]

    low, high = jnp.maximum(one[..., :2], other[..., :2]), jnp.minimum(one[..., 2:], other[..., 2:])
    shared = area(low, high)
    covered = area(one[..., :2], one[..., 2:]) + area(other[..., :2], other[..., 2:]) - shared
    return shared / jnp.maximum(covered, 1)
