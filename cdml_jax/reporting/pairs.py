"""Which classes, and which pairs of classes, are confused most; the validation split chooses them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cdml_jax.confusion import Confusion, as_confusion
from cdml_jax.confusion.figures import class_error
from cdml_jax.reporting.table import Table

_PAIRS = 10


class ConfusedPair(NamedTuple):
    """An ordered pair of classes, and the share of the first's images that are called the second.

    Attributes:
      true, called: the classes.
      rate: the share.
      number: how many images are called so, of the first class's `images`.
    """

    true: int
    called: int
    rate: float
    number: int
    images: int


def confused_subcategories(table: Table, number: int = 20) -> np.ndarray:
    """The subcategories that the baseline gets wrong most often on the VALIDATION split, seeds summed.

    The test split has no say: choosing its worst would make any second method look better by
    regression to the mean.

    Args:
      table: results of all methods and seeds.
      number: how many to choose; fewer come back where fewer classes have validation images.

    Returns:
      (≤ number,) class indices, the worst first, ties by index.

    Raises:
      ValueError: no result of the baseline.
    """
    if not table.has_baseline:
        raise ValueError(
            f"no result of method {table.baseline!r}, whose validation confusion chooses the subcategories"
        )
    rates = class_error(table.counts(table.baseline, "validation"))
    order = np.argsort(-rates, kind="stable")  # NaN, a class without images, sorts last
    return order[: min(number, int((~np.isnan(rates)).sum()))]


def confused_pairs(table: Table, number: int = _PAIRS) -> list[ConfusedPair]:
    """The ordered pairs that the baseline confuses most on the VALIDATION split, seeds summed.

    As with the subcategories, the test split has no say in the choice.

    Args:
      table: results of all methods and seeds.
      number: how many at most; pairs that are never confused are left out.

    Returns:
      The pairs with their validation rates, the highest first, ties by index; none without the baseline.
    """
    if not table.has_baseline:
        return []
    return confused_pairs_of(table.counts(table.baseline, "validation"), number)


def confused_pairs_of(counts: np.ndarray | Confusion, number: int = _PAIRS) -> list[ConfusedPair]:
    """The ordered pairs of classes confused most, by the share of the first's images.

    Args:
      counts: (C, C); [i, j] = images of class i called j. Or another form, whose counts may fall short.
      number: how many at most; pairs that are never confused are left out.

    Returns:
      The pairs with their rates, the highest first, ties by index.

    >>> confused_pairs_of(np.array([[3, 1], [0, 4]]))
    [ConfusedPair(true=0, called=1, rate=0.25, number=1, images=4)]
    """
    confusion = as_confusion(counts)
    images = np.add(*confusion.errors_and_correct())
    return [
        ConfusedPair(
            int(true), int(called), float(rate), round(float(rate * images[true])), round(float(images[true]))
        )
        for true, called, rate in zip(*confusion.most_confused(number))
    ]


def taken_for(counts: np.ndarray) -> list[tuple[int, int] | None]:
    """The other class that images of each class are called most often, and how often; None for none.

    Args:
      counts: (C, C); [i, j] = images of class i called j.

    >>> taken_for(np.array([[3, 1, 2], [0, 4, 0], [1, 1, 0]]))
    [(2, 2), None, (0, 1)]
    """
    if not counts.size:
        return []
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    return [(int(j), int(row[j])) if row[j] else None for j, row in zip(wrong.argmax(axis=1), wrong)]


def call_rates(counts: np.ndarray) -> np.ndarray:
    """Share of the images of class i that were called j: counts[i, j] / Σ_k counts[i, k].

    Args:
      counts: (C, C) integers; [i, j] = images of class i called j.

    Returns:
      (C, C) float64; NaN in the rows of classes without images.
    """
    sizes = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, sizes, out=np.full(counts.shape, np.nan), where=sizes > 0)
