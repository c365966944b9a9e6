"""Checks of embeddings and labels that every figure begins with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Float, Int, Num

_LARGEST = float(np.finfo(np.float32).max)  # square of an embedding's length
_AT_ONCE = 1 << 16  # numbers that are converted to float64 at a time: they stay in a core's cache


def checked_embeddings(embeddings: Num[ArrayLike, "rows size"], name: str) -> Float[np.ndarray, "rows size"]:
    """The same numbers in a floating type that holds them: float16, bfloat16, float32 or float64.

    Args:
      embeddings: one row an image.
      name: what an error calls them.

    Raises:
      ValueError: another rank, an embedding that is not finite or longer than float32 can square.
      TypeError: what is not a real number.
    """
    array = np.asarray(embeddings)
    if array.ndim != 2:
        raise ValueError(f"{name} must be (rows, size), not {array.shape}")
    if not (jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "iub"):
        raise TypeError(f"{name} are real numbers, not {array.dtype}")
    if array.dtype.kind in "iub" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    for part in slices(*array.shape):
        rows = array[part].astype(np.float64)
        # NaN compares false.
        with np.errstate(over="ignore", invalid="ignore"):
            bad = ~(np.einsum("nd,nd->n", rows, rows) < _LARGEST)
        if bad.any():
            row = part.start + int(bad.argmax())
            raise ValueError(f"{name}: row {row} is not finite, or too long for float32")
    return array


def checked_labels(
    labels: Int[ArrayLike, " rows"] | None, number: int, name: str
) -> Int[np.ndarray, " rows"]:
    """Labels of so many embeddings as an array of integers.

    Args:
      labels: one class an embedding.
      number: how many embeddings there are.
      name: what an error calls them.

    Raises:
      TypeError: they are not integers.
      ValueError: there are more or fewer than `number`.
    """
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name}: classes are integers, not {array.dtype}")
    if array.shape != (number,):
        raise ValueError(f"{name}: shape {array.shape} does not fit {number} embeddings")
    return array


def slices(rows: int, size: int) -> Iterator[slice]:
    """Consecutive rows of an array of this shape, few enough that float64 copies of them are small."""
    step = max(1, _AT_ONCE // max(1, size))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
