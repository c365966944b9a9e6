"""Costs of other methods, as controls: they tell whether a gain is due to confusion or to hardness alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from cdml_jax.sampling import Triplets

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


def focal_factor(cross_entropy: Float[Array, " batch"], gamma: float | jax.Array) -> Float[Array, " batch"]:
    r"""Factor of each row's cross-entropy in the focal loss, (1 − p_y)^γ.

    .. math:: (1 - e^{-\ell_b})^\gamma

    Args:
      cross_entropy: unweighted, without label smoothing.
      gamma: γ ≥ 0; 0 gives ones and zero gradients.

    >>> focal_factor(jnp.array([0.0, 0.6931472]), 2.0).round(3).tolist()
    [0.0, 0.25]

    Source: Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", ICCV 2017.
    """
    wrong = jnp.maximum(-jnp.expm1(-cross_entropy), 1e-7)
    return jnp.where(gamma > 0, wrong ** jnp.maximum(gamma, 1e-7), 1)


def inverse_frequency(images: Int[Array, " classes"]) -> Float[Array, " classes"]:
    r"""Class weights ∝ 1 / n_i, with mean 1 over the classes that have images; 0 for the others.

    >>> inverse_frequency(jnp.array([1, 3])).tolist()
    [1.5, 0.5]
    """
    images = jnp.asarray(images)
    inverse = jnp.where(images > 0, 1 / jnp.maximum(images, 1), 0).astype(jnp.float32)
    return inverse * (images > 0).sum() / inverse.sum()


def class_balanced(
    images: Int[Array, " classes"], *, overlap: float | jax.Array = 0.999
) -> Float[Array, " classes"]:
    r"""Class weights ∝ 1 / effective number of images, with mean 1 over the classes that have images.

    .. math:: w_i \propto \frac{1 - \beta}{1 - \beta^{n_i}}

    Args:
      images: n_i of each class.
      overlap: the β above, in [0, 1): 0 gives equal weights, near 1 `inverse_frequency`.

    >>> class_balanced(jnp.array([1, 2, 0]), overlap=0.5).round(3).tolist()
    [1.2000000476837158, 0.800000011920929, 0.0]

    Source: Cui, Jia, Lin, Song and Belongie, "Class-Balanced Loss Based on Effective Number of Samples",
    CVPR 2019.
    """
    images = jnp.asarray(images)
    # −expm1(n log β), since 1 − β^n cancels where β is near 1.
    effective = -jnp.expm1(jnp.maximum(images, 1) * jnp.log(jnp.maximum(overlap, 1e-30)))
    inverse = jnp.where(images > 0, 1 / effective, 0).astype(jnp.float32)
    return inverse * (images > 0).sum() / inverse.sum()


def batch_hard_triplets(
    embeddings: Float[Array, "batch size"],
    labels: Int[Array, " batch"],
    *,
    num_triplets: int,
    where: Bool[Array, " batch"] | None = None,
) -> Triplets:
    r"""For each anchor the farthest row of its class and the nearest row of another, over and over.

    .. math:: p = \arg\max_{y_p = y_a, p \ne a} \|g_a - g_p\|, \quad n = \arg\min_{y_n \ne y_a} \|g_a - g_n\|

    Args:
      embeddings: one row an image; no gradient flows through the choice.
      labels: class of each row.
      num_triplets: T; anchors go round, so with a multiple of the batch each counts alike.
      where: rows that count.

    Returns:
      `Triplets`; one is valid whose anchor counts and has both a positive and a negative.

    >>> rows = jnp.array([[0.0], [1.0], [3.0], [3.5]])
    >>> batch_hard_triplets(rows, jnp.array([0, 0, 0, 1]), num_triplets=4).positive.tolist()
    [2, 2, 0, 0]

    Source: Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification" (2017).
    """
    distances, positives, negatives = _compared(embeddings, labels, where)
    anchor = jnp.arange(num_triplets, dtype=jnp.int32) % labels.shape[0]
    positive = jnp.argmax(jnp.where(positives, distances, -jnp.inf), axis=1)[anchor]
    negative = jnp.argmin(jnp.where(negatives, distances, jnp.inf), axis=1)[anchor]
    return _triplets(anchor, positive, negative, positives, negatives)


def semi_hard_triplets(
    embeddings: Float[Array, "batch size"],
    labels: Int[Array, " batch"],
    *,
    num_triplets: int,
    where: Bool[Array, " batch"] | None = None,
) -> Triplets:
    r"""For each anchor and positive the nearest negative beyond the positive, or the farthest if none is.

    .. math:: n = \arg\min_{y_n \ne y_a,\ \|g_a - g_n\| > \|g_a - g_p\|} \|g_a - g_n\|

    Args:
      embeddings: one row an image; no gradient flows through the choice.
      labels: class of each row.
      num_triplets: T; anchors go round, and each time an anchor comes back it takes its next positive.
      where: rows that count.

    Returns:
      `Triplets`; one is valid whose anchor counts and has both a positive and a negative.

    >>> rows = jnp.array([[0.0], [1.0], [0.5], [3.5]])
    >>> semi_hard_triplets(rows, jnp.array([0, 0, 1, 1]), num_triplets=4).negative.tolist()
    [3, 3, 0, 0]

    Source: Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, section 3.2.
    """
    distances, positives, negatives = _compared(embeddings, labels, where)
    batch = labels.shape[0]
    turn, anchor = jnp.divmod(jnp.arange(num_triplets, dtype=jnp.int32), batch)
    rank = jnp.cumsum(positives, axis=1)
    wanted = turn % jnp.maximum(rank[anchor, -1], 1) + 1
    positive = jnp.argmax(positives[anchor] & (rank[anchor] == wanted[:, None]), axis=1)
    to_rows = distances[anchor]
    beyond = negatives[anchor] & (to_rows > distances[anchor, positive][:, None])
    nearest = jnp.argmin(jnp.where(beyond, to_rows, jnp.inf), axis=1)
    farthest = jnp.argmax(jnp.where(negatives[anchor], to_rows, -jnp.inf), axis=1)
    negative = jnp.where(beyond.any(axis=1), nearest, farthest)
    return _triplets(anchor, positive, negative, positives, negatives)


def _compared(
    embeddings: jax.Array, labels: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared distances of all rows, and which rows are positives and negatives of which."""
    embeddings = jax.lax.stop_gradient(jnp.asarray(embeddings).astype(jnp.float32))
    real = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where, bool)
    embeddings = jnp.where(real[:, None], embeddings, 0)
    squares = jnp.sum(embeddings**2, axis=1)
    products = jnp.matmul(embeddings, embeddings.T, precision=jax.lax.Precision.HIGHEST)
    distances = squares[:, None] + squares[None, :] - 2 * products
    same = labels[:, None] == labels[None, :]
    both = real[:, None] & real[None, :]
    return distances, both & same & ~jnp.eye(labels.shape[0], dtype=bool), both & ~same


def _triplets(
    anchor: jax.Array, positive: jax.Array, negative: jax.Array, positives: jax.Array, negatives: jax.Array
) -> Triplets:
    valid = (positives.any(axis=1) & negatives.any(axis=1))[anchor]
    positive, negative = (jnp.where(valid, row, 0).astype(jnp.int32) for row in (positive, negative))
    return Triplets(anchor, positive, negative, valid)
