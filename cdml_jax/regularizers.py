"""Terms of other systems that stand beside a softmax, as values of a pair or a row.

As in `losses`, nothing here reduces, values are float32 or wider, and rows where `where` is false may hold
anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from cdml_jax.confusion.labels import class_labels

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Integer


def pairwise_confusion(
    logits: Float[Array, "batch classes"],
    labels: Integer[Array, " batch"],
    *,
    where: Bool[Array, " batch"] | None = None,
) -> tuple[Float[Array, " pairs"], Bool[Array, " pairs"]]:
    r"""Squared distance of the probabilities of images of two classes, row i with row i + B/2.

    .. math:: \ell_i = \|p_i - p_{i + B/2}\|^2, \quad p = \mathrm{softmax}(f), \quad 0 \le \ell_i \le 2

    Minimised, it pulls the outputs for images of different classes together and so limits confidence. The
    paper adds λ (2/B) Σ_i v_i ℓ_i to the softmax; in its README's units λ is 0.1 C to 0.2 C, here half of it.

    Args:
      logits: scores of the classes.
      labels: class of each row.
      where: rows that count; the others may hold anything and give 0 with zero gradients.

    Returns:
      ℓ, (batch // 2,), float32 or wider, and v: whether both rows count and differ in class. ℓ is 0 where v
      is false. The last row of an odd batch is in no pair.

    Raises:
      TypeError: labels are not integers.
      ValueError: labels do not fit logits.

    >>> logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1]]))
    >>> values, valid = pairwise_confusion(logits, jnp.array([0, 1, 1, 1]))
    >>> values.round(4).tolist(), valid.tolist()
    ([0.3799999952316284, 0.0], [True, False])

    Source: Dubey, Gupta, Guo, Raskar, Farrell and Naik, "Pairwise Confusion for Fine-Grained Visual
    Classification", ECCV 2018, equation of Euclidean confusion.
    """
    logits, labels = jnp.asarray(logits), class_labels(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"labels: shape {labels.shape} does not fit logits {logits.shape}")
    first, second, valid = halves(labels, where=where)
    return probability_distances(logits, first, second, valid), valid


def halves(
    labels: Integer[Array, " batch"], *, where: Bool[Array, " batch"] | None = None
) -> tuple[Int[Array, " pairs"], Int[Array, " pairs"], Bool[Array, " pairs"]]:
    """Rows i and i + B/2, and whether both count and differ in class.

    Where a batch is taken apart into microbatches of every n-th row, and B/2 is a multiple of n, the halves
    of the microbatches are the halves of the batch.

    >>> [part.tolist() for part in halves(jnp.array([0, 1, 1, 1]))]
    [[0, 1], [2, 3], [True, False]]
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    half = labels.shape[0] // 2
    real = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where, bool)
    first = jnp.arange(half, dtype=jnp.int32)
    second = first + half
    valid = (labels[:half] != labels[half : 2 * half]) & real[:half] & real[half : 2 * half]
    return first, second, valid


def probability_distances(
    logits: Float[Array, "batch classes"],
    first: Int[Array, " pairs"],
    second: Int[Array, " pairs"],
    valid: Bool[Array, " pairs"],
) -> Float[Array, " pairs"]:
    """Squared distance of the softmax of two rows, for each pair; 0 with zero gradients where not valid."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # Masked before the softmax: the derivative of a softmax of NaN is NaN, whatever it is multiplied by.
    one, other = (jax.nn.softmax(jnp.where(valid[:, None], logits[rows], 0)) for rows in (first, second))
    return jnp.sum((one - other) ** 2, axis=1)
