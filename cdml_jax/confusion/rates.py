"""From the errors and images of each class to smoothed rates and class weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Comparisons below are `~(x <= 0)` where `x > 0` would take NaN counts for no counts, and hide them.


def error_rates(
    errors: Float[Array, " classes"], images: Float[Array, " classes"], smoothing: float | jax.Array
) -> tuple[Float[Array, " classes"], Float[Array, ""]]:
    r"""Smoothed error rate W of each class and the mean row error ē, float32.

    .. math:: W_i = \frac{e_i + s \bar e}{n_i + s}, \qquad W_i = \bar e \ (n_i + s = 0)

    Args:
      errors: e_i, images of each class that were called anything else; summed, not taken from 1 − P.
      images: n_i, images of each class.
      smoothing: s ≥ 0, in images.
    """
    seen = ~(images <= 0)
    number_seen = seen.sum(dtype=jnp.int32)
    row_errors = errors / jnp.where(seen, images, 1)
    mean_error = jnp.where(
        number_seen > 0,
        jnp.where(seen, row_errors, 0).sum() / jnp.maximum(number_seen, 1).astype(jnp.float32),
        1 - 1 / images.size,
    ).astype(jnp.float32)
    denominators = images + smoothing
    has_rate = ~(denominators <= 0)
    rates = jnp.where(
        has_rate, (errors + smoothing * mean_error) / jnp.where(has_rate, denominators, 1), mean_error
    )
    return rates.astype(jnp.float32), mean_error


def weights_of_rates(
    rates: Float[Array, " classes"],
    *,
    mode: str = "rate",
    beta: float | jax.Array = 1.0,
    normalize: bool = True,
) -> Float[Array, " classes"]:
    """Class weights of the error rates W: W, or 1 + β W; options as `confusion.class_weights`.

    Raises:
      ValueError: an unknown mode.

    >>> weights_of_rates(jnp.array([0.25, 0.75])).tolist()
    [0.5, 1.5]
    """
    if mode == "rate":
        weights = rates
    elif mode == "one_plus_rate":
        weights = 1 + beta * rates
    else:
        raise ValueError(f"mode: {mode!r} is unknown; choose rate or one_plus_rate")
    if not normalize:
        return weights
    mean = weights.mean()
    no_errors = mean <= 0
    return jnp.where(no_errors, 1, weights / jnp.where(no_errors, 1, mean))
