"""Running averages on device, as (sum, count) pairs that merge; figures of a confusion matrix on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.top_confusions import TopConfusions

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float


class Average(NamedTuple):
    """Sum of values and their number; any shape, elementwise."""

    total: jax.Array
    number: jax.Array


def average(total: ArrayLike, number: ArrayLike) -> Average:
    """State of one batch: the sum of its values, float32 or wider, and how many they are.

    >>> average(jnp.float32(6.0), jnp.int32(3)).total.dtype
    dtype('float32')
    """
    total = jnp.asarray(total)
    return Average(
        total.astype(jnp.promote_types(total.dtype, jnp.float32)), jnp.asarray(number, jnp.float32)
    )


def merge(first: dict[str, Average], second: dict[str, Average]) -> dict[str, Average]:
    """States of two disjoint sets of rows, as the state of both.

    >>> a, b = {"loss": average(6.0, 3)}, {"loss": average(2.0, 1)}
    >>> float(compute(merge(a, b))["loss"])
    2.0
    """
    return jax.tree.map(jnp.add, first, second)


def compute(states: dict[str, Average]) -> dict[str, Float[Array, "*shape"]]:
    """Means; 0 where nothing was counted.

    >>> float(compute({"loss": average(0.0, 0)})["loss"])
    0.0
    """
    return {name: state.total / jnp.maximum(state.number, 1) for name, state in states.items()}


def accuracy(counts: np.ndarray | TopConfusions) -> float:
    """Share of images called rightly: Σ_i counts[i, i] / Σ_ij counts[i, j].

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.

    Returns:
      The accuracy in [0, 1]; NaN without images.

    >>> accuracy(np.array([[3, 1], [0, 4]]))
    0.875
    """
    errors, correct = _errors_and_correct(counts)
    total = errors.sum() + correct.sum()
    return float(correct.sum() / total) if total else math.nan


def class_error(counts: np.ndarray | TopConfusions) -> np.ndarray:
    """Misclassification rate of every class: 1 − counts[i, i] / Σ_j counts[i, j].

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.

    Returns:
      (C,) float64; NaN for a class without images.

    >>> class_error(np.array([[3, 1], [0, 0]]))
    array([0.25,  nan])
    """
    errors, correct = _errors_and_correct(counts)
    sizes = errors + correct
    return np.divide(errors, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)


def mean_class_error(counts: np.ndarray | TopConfusions) -> float:
    """Mean of `class_error` over the classes that have images, every class counting the same.

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.

    Returns:
      The mean rate in [0, 1]; NaN without images.
    """
    errors = class_error(counts)
    seen = ~np.isnan(errors)
    return float(errors[seen].mean()) if seen.any() else math.nan


def family_accuracy(counts: np.ndarray, families: Sequence[int] | np.ndarray) -> float:
    """Share of images called some class of their own family, the right class included.

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.
      families: (C,) integers; the family of every class.

    Returns:
      The accuracy in [0, 1]; NaN without images.
    """
    counts, kin = _square(counts), kinship(families)
    total = counts.sum()
    return float(counts[kin].sum() / total) if total else math.nan


def confusion_inside_families(counts: np.ndarray, families: Sequence[int] | np.ndarray) -> float:
    """Share of the wrong answers that name another class of the same family.

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.
      families: (C,) integers; the family of every class.

    Returns:
      The share in [0, 1]; NaN without wrong answers.
    """
    counts, kin = _square(counts), kinship(families)
    wrong = counts.sum() - np.trace(counts)
    return float((counts[kin].sum() - np.trace(counts)) / wrong) if wrong else math.nan


def kinship(families: Sequence[int] | np.ndarray) -> np.ndarray:
    """(C, C) bool: whether two classes, possibly the same, are of one family."""
    families = np.asarray(families)
    return families[:, None] == families[None, :]


def _errors_and_correct(counts: np.ndarray | TopConfusions) -> tuple[np.ndarray, np.ndarray]:
    """Images of every class that are called anything else, and right: (C,) float64."""
    if isinstance(counts, TopConfusions):
        return np.asarray(counts.errors, np.float64), np.asarray(counts.correct, np.float64)
    counts = _square(counts)
    correct = np.diagonal(counts)
    return (counts.sum(axis=1) - correct).astype(np.float64), correct.astype(np.float64)


def _square(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"counts must be square (C, C), not {counts.shape}")
    if counts.size and counts.min() < 0:
        raise ValueError("counts must not be negative")
    return counts
