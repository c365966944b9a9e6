"""Figures of a confusion matrix by hand."""

import math

import numpy as np
import pytest

from cdml_jax.confusion.figures import (
    accuracy,
    class_error,
    confusion_inside_families,
    family_accuracy,
    mean_class_error,
)

# Unequal class sizes 4, 10, 0, 6; classes 0 and 1 are kin, 2 and 3 are.
COUNTS = np.array([[3, 1, 0, 0], [2, 5, 3, 0], [0, 0, 0, 0], [0, 1, 2, 3]])
FAMILIES = [7, 7, 9, 9]


def test_rates_by_hand():
    assert accuracy(COUNTS) == 11 / 20
    np.testing.assert_allclose(class_error(COUNTS), [1 / 4, 5 / 10, np.nan, 3 / 6])
    assert mean_class_error(COUNTS) == pytest.approx((1 / 4 + 5 / 10 + 3 / 6) / 3)
    assert family_accuracy(COUNTS, FAMILIES) == (3 + 1 + 2 + 5 + 2 + 3) / 20
    assert confusion_inside_families(COUNTS, FAMILIES) == (1 + 2 + 2) / 9


def test_no_images_is_nan_without_a_warning(recwarn):
    nothing = np.zeros((3, 3), np.int64)
    figures = [accuracy(nothing), mean_class_error(nothing), family_accuracy(nothing, [0, 0, 1])]
    figures += [confusion_inside_families(np.eye(3, dtype=int), [0, 0, 1]), *class_error(nothing)]
    assert all(math.isnan(figure) for figure in figures)
    assert not recwarn.list


@pytest.mark.parametrize("counts", [np.zeros((2, 3), int), -np.eye(2, dtype=int)], ids=["shape", "negative"])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="counts must"):
        accuracy(counts)


def test_soft_counts_give_expected_rates():
    assert accuracy(np.array([[0.75, 0.25], [0.5, 1.5]])) == 0.75
