"""Class weights from the number of images of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


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
