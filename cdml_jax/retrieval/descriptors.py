"""Descriptors of feature maps that need no training: where the object is, and what is pooled there.

Selective convolutional descriptor aggregation (SCDA) looks at one image, the deep descriptor transform (DDT)
at a set of images of one thing. Both take what a pretrained network's last layer gives at each position,
(images, height, width, channels); patch tokens of a vision transformer laid out as a map are one too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.retrieval.components import enlarged, largest_component
from cdml_jax.system.maxima import largest_along

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Bool, Float

_NOTHING = 1e-12  # of the descriptors' squared length, or of the largest eigenvalue: rounding
_SMALL, _BLOCK, _ROUNDS = 96, 8, 200  # of the search for the leading eigenvector


def selective_descriptors(
    feature_map: Float[Array, "batch height width channels"],
    earlier: Float[Array, "batch finer_height finer_width more"] | None = None,
    *,
    earlier_weight: float = 0.5,
    neighbours: int = 8,
) -> Float[Array, "batch size"]:
    r"""SCDA: mean and maximum of the descriptors on the object, each scaled to length 1.

    .. math:: \left[\frac{\text{avg}}{\|\text{avg}\|}, \frac{\max}{\|\max\|}\right] \text{ over } \tilde{M}

    With `earlier` it is SCDA+: the same of an earlier layer's map, times `earlier_weight`, is appended. There
    the positions are those of the map's own that exceed the mean and that M̃ covers once enlarged; where none
    is left, all that M̃ covers.

    Args:
      feature_map: of the last layer, after its activation.
      earlier: of an earlier layer, in general twice as high and as wide.
      earlier_weight: α of SCDA+.
      neighbours: of a position in a component, 8 or 4.

    Returns:
      float32 or wider, (batch, 2 channels), or (batch, 2 channels + 2 more) with `earlier`. Each half has
      length 1 (0 where it is 0).

    Raises:
      ValueError: maps of another rank or number of images, or neighbours that are neither 4 nor 8.

    >>> feature_map = jnp.zeros((1, 4, 4, 2)).at[0, 1, 1].set(jnp.array([3.0, 4.0]))
    >>> np.asarray(selective_descriptors(feature_map), float).round(3).tolist()
    [[0.6, 0.8, 0.6, 0.8]]

    Source: Wei, Luo, Wu and Zhou, "Selective Convolutional Descriptor Aggregation for Fine-Grained Image
    Retrieval", IEEE TIP 2017.
    """
    feature_map = _as_map(feature_map, "feature_map")
    positions = selected_positions(feature_map, neighbours=neighbours)
    found = pooled_descriptors(feature_map, positions)
    if earlier is None:
        return found
    earlier = _as_map(earlier, "earlier")
    if len(earlier) != len(feature_map):
        raise ValueError(f"earlier has {len(earlier)} images, feature_map has {len(feature_map)}")
    covered = enlarged(positions, (earlier.shape[1], earlier.shape[2]))
    both = above_mean(earlier) & covered
    both = jnp.where(both.any((1, 2), keepdims=True), both, covered)
    return jnp.concatenate([found, earlier_weight * pooled_descriptors(earlier, both)], axis=1)


def above_mean(
    feature_map: Float[Array, "batch height width channels"],
) -> Bool[Array, "batch height width"]:
    """M: positions whose activation, the sum over the channels, exceeds the mean over the map.

    None in a map of one value.
    """
    activation = _as_map(feature_map, "feature_map").sum(axis=3)
    return activation > activation.mean((1, 2), keepdims=True)


def selected_positions(
    feature_map: Float[Array, "batch height width channels"], *, neighbours: int = 8
) -> Bool[Array, "batch height width"]:
    """M̃: the largest component of `above_mean`; all positions where that is empty, which is our choice."""
    positions = largest_component(above_mean(feature_map), neighbours=neighbours)
    return positions | ~positions.any((1, 2), keepdims=True)


def pooled_descriptors(
    feature_map: Float[Array, "batch height width channels"],
    positions: Bool[Array, "batch height width"],
) -> Float[Array, "batch size"]:
    """[avg/‖avg‖, max/‖max‖] over some positions, (batch, 2 channels); 0 where there is no position.

    Raises:
      ValueError: a map of another rank, or positions of another shape than its own.
    """
    feature_map, positions = _as_map(feature_map, "feature_map"), jnp.asarray(positions, bool)
    if positions.shape != feature_map.shape[:3]:
        raise ValueError(f"positions: shape {positions.shape} does not fit a map {feature_map.shape}")
    there = positions[..., None]
    number = jnp.maximum(positions.sum((1, 2), dtype=feature_map.dtype), 1)
    mean = jnp.where(there, feature_map, 0).sum((1, 2)) / number[:, None]
    on_object = jnp.where(there, feature_map, -jnp.inf)
    images, height, width, channels = feature_map.shape
    largest = largest_along(on_object.reshape(images, height * width, channels), 1)
    largest = jnp.where(positions.any((1, 2))[:, None], largest, 0)
    return jnp.concatenate([of_length_one(mean), of_length_one(largest)], axis=1)


def of_length_one(rows: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """Rows scaled to length 1, however long they are; 0, with finite gradients, where they are 0."""
    largest = jax.lax.stop_gradient(jnp.abs(rows).max(axis=-1, keepdims=True))
    rows = rows / jnp.where(largest > 0, largest, 1)  # squares neither vanish nor overflow
    squares = jnp.sum(rows**2, axis=-1, keepdims=True)
    return rows / jnp.sqrt(jnp.where(squares > 0, squares, 1))


def _as_map(feature_map: ArrayLike, name: str) -> Array:
    values = jnp.asarray(feature_map)
    if values.ndim != 4:
        raise ValueError(f"{name} must be (images, height, width, channels), not {values.shape}")
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


class DescriptorSums(NamedTuple):
    """What DDT needs of all descriptors x of a set, for maps that are never all held; sums add up.

    Attributes:
      number: K, how many descriptors.
      total: Σ x, (channels,).
      products: Σ x xᵀ, (channels, channels).
    """

    number: Float[ArrayLike, ""]
    total: Float[ArrayLike, " channels"]
    products: Float[ArrayLike, "channels channels"]

    def plus(self, other: DescriptorSums) -> DescriptorSums:
        """The sums of both sets, in float64 on the host.

        Raises:
          ValueError: maps of another number of channels.
        """
        if jnp.shape(self.total) != jnp.shape(other.total):
            sizes = f"{jnp.shape(self.total)} and {jnp.shape(other.total)}"
            raise ValueError(f"total: shapes {sizes} are of different channels, and do not add up")
        both = [np.asarray(a, np.float64) + np.asarray(b, np.float64) for a, b in zip(self, other)]
        return DescriptorSums(*both)


def descriptor_sums(
    feature_maps: Float[Array, "images height width channels"],
    *,
    where: Bool[Array, " images"] | None = None,
) -> DescriptorSums:
    """The sums of the descriptors of some images, in float32 or wider; works under jit.

    Args:
      feature_maps: of a batch.
      where: images that count; the others may hold anything.

    Raises:
      ValueError: maps of another rank, or `where` that is not one number an image.
    """
    maps = _as_map(feature_maps, "feature_maps")
    number = jnp.asarray(maps.shape[0], maps.dtype)
    if where is not None:
        where = jnp.asarray(where, bool)
        if where.shape != maps.shape[:1]:
            raise ValueError(f"where: shape {where.shape} does not fit {len(maps)} images")
        maps = jnp.where(where[:, None, None, None], maps, 0)
        number = jnp.sum(where, dtype=maps.dtype)
    x = maps.reshape(-1, maps.shape[3])
    products = jnp.matmul(x.T, x, precision="highest")
    return DescriptorSums(number * maps.shape[1] * maps.shape[2], x.sum(axis=0), products)


class Direction(NamedTuple):
    """The direction in which the descriptors of a set vary most.

    Attributes:
      mean: x̄, (channels,) float64.
      vector: ξ, (channels,) float64, of length 1; 0 where the descriptors do not vary.
      share: of the descriptors' whole variance that lies along ξ.
    """

    mean: Float[np.ndarray, " channels"]
    vector: Float[np.ndarray, " channels"]
    share: float


def principal_direction(sums: DescriptorSums) -> Direction:
    r"""The leading eigenvector of the covariance, with the sign by which objects are positive.

    .. math:: \bar{x} = \frac{1}{K} \sum x, \quad
              \text{Cov} = \frac{1}{K} \sum x x^\top - \bar{x} \bar{x}^\top

    The sign, which the paper leaves open, is ours: the one for which activation (the sum over the channels)
    and indicator go together over the set, Σ A P ≥ 0; as Σ A P = K λ Σ_d ξ_d, that is Σ_d ξ_d ≥ 0.

    Raises:
      ValueError: sums of no descriptor, or that are not finite.
    """
    number, total, products = (np.asarray(part, np.float64) for part in sums)
    if not number > 0:
        raise ValueError("no descriptor: a direction needs at least one image")
    mean = total / number
    covariance = products / number - np.outer(mean, mean)
    if not np.isfinite(covariance).all():
        raise ValueError("descriptors are not finite")
    whole = float(np.trace(covariance))
    if whole <= _NOTHING * float(np.trace(products)) / number:
        return Direction(mean, np.zeros_like(mean), 0.0)
    value, vector = leading_eigenvector((covariance + covariance.T) / 2)
    along = float(vector.sum())
    sign = along if abs(along) > _NOTHING else float(vector[np.abs(vector).argmax()])
    return Direction(mean, vector if sign > 0 else -vector, value / whole)


def leading_eigenvector(
    matrix: Float[np.ndarray, "channels channels"],
) -> tuple[float, Float[np.ndarray, " channels"]]:
    """The largest eigenvalue of a symmetric matrix without negative ones, and its vector of length 1.

    Of a large matrix by iterating a block of vectors, which takes a tenth of the time of a decomposition;
    where that does not converge, by the decomposition.
    """
    if len(matrix) > _SMALL:
        block = np.random.default_rng(0).normal(size=(len(matrix), _BLOCK))
        for _ in range(_ROUNDS):
            block, _ = np.linalg.qr(matrix @ block)
            moved = matrix @ block
            values, turns = np.linalg.eigh(block.T @ moved)
            vector = block @ turns[:, -1]
            if np.linalg.norm(moved @ turns[:, -1] - values[-1] * vector) <= _NOTHING * values[-1]:
                return float(values[-1]), vector
    values, vectors = np.linalg.eigh(matrix)
    return float(values[-1]), vectors[:, -1]


def indicator_maps(
    feature_maps: Float[Array, "images height width channels"],
    mean: Float[ArrayLike, " channels"],
    vector: Float[ArrayLike, " channels"],
) -> Float[Array, "images height width"]:
    """P(r, c) = ξᵀ (x(r, c) − x̄), in float32 or wider; works under jit.

    Raises:
      ValueError: maps of another rank, or a mean or vector of another number of channels.
    """
    maps = _as_map(feature_maps, "feature_maps")
    if not jnp.shape(mean) == jnp.shape(vector) == maps.shape[3:]:
        raise ValueError(
            f"mean {jnp.shape(mean)} and vector {jnp.shape(vector)} do not fit maps {maps.shape}"
        )
    centred = maps - jnp.asarray(mean, maps.dtype)
    return jnp.matmul(centred, jnp.asarray(vector, maps.dtype), precision="highest")


def descriptor_transform(
    feature_maps: Float[ArrayLike, "images height width channels"],
) -> Float[np.ndarray, "images height width"]:
    r"""DDT: indicator maps of a set of images that show one thing, positive on it.

    .. math:: P_n(r, c) = \xi^\top (x_n(r, c) - \bar{x})

    The object is the largest component of P > 0; an image without a positive position has none. In float64 on
    the host. Of more images than memory holds, add up `descriptor_sums`, and take `principal_direction` and
    `indicator_maps`.

    Raises:
      ValueError: not (images, height, width, channels), no image, or numbers that are not finite.

    >>> maps = np.float64([[[[4, 1], [3, 1], [0, 1]]], [[[0, 0], [0, 0], [1, 0]]]])
    >>> descriptor_transform(maps).round(3).tolist()
    [[[2.713, 1.733, -1.204]], [[-1.407, -1.407, -0.428]]]

    Source: Wei, Zhang, Li, Xie, Wu and Shen, "Deep Descriptor Transforming for Image Co-Localization", IJCAI
    2017.
    """
    maps = np.asarray(feature_maps, np.float64)
    if maps.ndim != 4:
        raise ValueError(f"feature_maps must be (images, height, width, channels), not {maps.shape}")
    x = maps.reshape(-1, maps.shape[3])
    direction = principal_direction(DescriptorSums(np.float64(len(x)), x.sum(axis=0), x.T @ x))
    return (maps - direction.mean) @ direction.vector
