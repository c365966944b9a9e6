"""Classes as arrays of int32, whatever integers they come as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array

_LARGEST = 2**31 - 1


def class_labels(labels: ArrayLike) -> Array:
    """Labels, or predicted classes, as int32; what it cannot hold becomes −1 or 2³¹ − 1: no class.

    JAX narrows 64-bit integers in silence: 2³² + 1 would be class 1. Labels narrower than int32 are widened,
    since they cannot be compared with a number of classes beyond their own range. What is not integers is
    returned as an array, for the caller to refuse.

    >>> class_labels(np.array([3, 2**32 + 1, -(2**40)])).tolist()
    [3, 2147483647, -1]
    """
    if not isinstance(labels, jax.Array | np.ndarray):
        try:
            labels = np.asarray(labels)
        except jax.errors.TracerArrayConversionError:
            labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        return jnp.asarray(labels)
    if labels.dtype.itemsize > 4 or labels.dtype == np.uint32:
        clip = np.clip if isinstance(labels, np.ndarray) else jnp.clip
        labels = clip(labels, max(np.iinfo(labels.dtype).min, -1), _LARGEST)
    return jnp.asarray(labels).astype(jnp.int32)


def check_labels(
    labels: Array, name: str, rows: Array, *, ndim: int = 2, **of_rows: ArrayLike | None
) -> None:
    """Refuses labels that are no integers or not one a row, and what else is not one number a row.

    Args:
      labels: class of each row.
      name: what an error calls the rows.
      rows: of so many dimensions, rows first.
      ndim: how many.
      of_rows: what has the labels' shape, by the name of its argument; None where it is not given.

    Raises:
      TypeError: labels are not integers.
      ValueError: shapes that do not fit.
    """
    if rows.ndim != ndim or labels.shape != rows.shape[:1]:
        raise ValueError(f"labels: shape {labels.shape} does not fit {name} {rows.shape}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    for other, values in of_rows.items():
        if values is not None and jnp.shape(values) != labels.shape:
            raise ValueError(f"{other}: shape {jnp.shape(values)} does not fit labels {labels.shape}")


def saturated(counts: ArrayLike) -> Array:
    """Counts as an array of JAX; what int32 cannot hold stands at its limit, where JAX would wrap around.

    >>> saturated(np.array([3, 2**40])).tolist()
    [3, 2147483647]
    """
    if isinstance(counts, np.ndarray) and counts.dtype.kind in "iu":
        limits = np.iinfo(jax.dtypes.canonicalize_dtype(counts.dtype))
        counts = np.clip(counts, limits.min, limits.max)
    return jnp.asarray(counts)
