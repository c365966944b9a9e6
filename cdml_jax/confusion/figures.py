"""Figures of a confusion matrix, on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cdml_jax.confusion.counts import square
from cdml_jax.confusion.forms import as_confusion
from cdml_jax.confusion.interface import Confusion


def accuracy(counts: np.ndarray | Confusion) -> float:
    """Share of images called rightly: Σ_i counts[i, i] / Σ_ij counts[i, j].

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.

    Returns:
      The accuracy in [0, 1]; NaN without images.

    >>> accuracy(np.array([[3, 1], [0, 4]]))
    0.875
    """
    errors, correct = as_confusion(counts).errors_and_correct()
    total = errors.sum() + correct.sum()
    return float(correct.sum() / total) if total else math.nan


def class_error(counts: np.ndarray | Confusion) -> np.ndarray:
    """Misclassification rate of every class: 1 − counts[i, i] / Σ_j counts[i, j].

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.

    Returns:
      (C,) float64; NaN for a class without images.

    >>> class_error(np.array([[3, 1], [0, 0]]))
    array([0.25,  nan])
    """
    errors, correct = as_confusion(counts).errors_and_correct()
    sizes = errors + correct
    return np.divide(errors, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)


def mean_class_error(counts: np.ndarray | Confusion) -> float:
    """Mean of `class_error` over the classes that have images, every class counting the same.

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.

    Returns:
      The mean rate in [0, 1]; NaN without images.
    """
    errors = class_error(counts)
    seen = ~np.isnan(errors)
    return float(errors[seen].mean()) if seen.any() else math.nan


class ClassFigures(NamedTuple):
    """Figures of every class, (C,) float64 each but `support`.

    Attributes:
      support: images of the class.
      precision: share of the images called so that are of the class; NaN where none is called so.
      recall: share of the class's images that are called so; NaN without images.
      f1: 2 right / (support + called); NaN for a class without images that nothing is called.
    """

    support: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def class_figures(counts: np.ndarray) -> ClassFigures:
    """Support, precision, recall and F1 of every class.

    Args:
      counts: (C, C), hard; [i, j] = images of class i called j.

    >>> class_figures(np.array([[3, 1], [0, 4]])).precision
    array([1. , 0.8])
    """
    counts = square(counts)
    right, support, called = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)

    return ClassFigures(
        support, share(right, called), share(right, support), share(2 * right, support + called)
    )


def macro_f1(counts: np.ndarray) -> float:
    """Mean F1 over the classes that have images, every class counting the same.

    Args:
      counts: (C, C), hard; [i, j] = images of class i called j.

    Returns:
      The mean in [0, 1]; NaN without images.

    >>> round(macro_f1(np.array([[3, 1], [0, 4]])), 4)
    0.873
    """
    found = class_figures(counts)
    seen = found.support > 0
    return float(found.f1[seen].mean()) if seen.any() else math.nan


def family_accuracy(counts: np.ndarray, families: Sequence[int] | np.ndarray) -> float:
    """Share of images called some class of their own family, the right class included.

    Args:
      counts: (C, C), hard or soft; [i, j] = images of class i called j.
      families: (C,) integers; the family of every class.

    Returns:
      The accuracy in [0, 1]; NaN without images.
    """
    counts, kin = square(counts), kinship(families)
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
    counts, kin = square(counts), kinship(families)
    wrong = counts.sum() - np.trace(counts)
    return float((counts[kin].sum() - np.trace(counts)) / wrong) if wrong else math.nan


def kinship(families: Sequence[int] | np.ndarray) -> np.ndarray:
    """(C, C) bool: whether two classes, possibly the same, are of one family."""
    families = np.asarray(families)
    return families[:, None] == families[None, :]
