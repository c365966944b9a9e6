"""Costs from elsewhere, against float64 loops."""

import numpy as np
import pytest

from cdml_jax.confusion.costs import checked_costs, cost_statistics, taxonomy_costs


@pytest.fixture
def matrices():
    rng = np.random.default_rng(3)
    costs, confused = rng.random((5, 5)), rng.random((5, 5))
    np.fill_diagonal(costs, 0)
    np.fill_diagonal(confused, 0)
    return np.float32(costs), np.float32(confused)


def test_expected_costs_are_those_of_a_loop(matrices):
    costs, confused = matrices
    rates, pairs = cost_statistics(costs, confused)
    expected = [sum(float(costs[i, j]) * float(confused[i, j]) for j in range(5)) for i in range(5)]
    np.testing.assert_allclose(rates, np.array(expected) / np.mean(expected), rtol=1e-6)
    np.testing.assert_allclose(pairs.matrix, costs / costs.sum(dtype=float), rtol=1e-6)
    assert rates.dtype == np.float32


def test_the_scale_of_costs_and_of_the_confusion_changes_nothing(matrices):
    costs, confused = matrices
    once, again = cost_statistics(costs, confused), cost_statistics(8 * costs, confused / 4)
    np.testing.assert_array_equal(once.rates, again.rates)
    np.testing.assert_array_equal(once.pairs.matrix, again.pairs.matrix)


def test_permuted_classes_have_permuted_costs(matrices):
    costs, confused = matrices
    order = np.array([3, 0, 4, 1, 2])
    rates = cost_statistics(costs[order][:, order], confused[order][:, order]).rates
    np.testing.assert_allclose(rates, cost_statistics(costs, confused).rates[order], rtol=1e-6)


@pytest.mark.parametrize("confused", [None, np.zeros((5, 5), np.float32)])
def test_all_classes_weigh_the_same_before_there_are_counts_or_errors(matrices, confused):
    np.testing.assert_array_equal(cost_statistics(matrices[0], confused).rates, np.ones(5))


def test_the_taxonomy_costs_little_across_families():
    costs = taxonomy_costs(np.array([1, 0, 1]))
    np.testing.assert_allclose(costs, [[0, 0.01, 1], [0.01, 0, 0.01], [1, 0.01, 0]])


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (np.ones((2, 3)), "square"),
        ([[0, -1], [1, 0]], r"\[0, 1\] is -1"),
        ([[0, 1], [np.nan, 0]], r"\[1, 0\] is nan"),
        (np.eye(3), "above 0"),
    ],
)
def test_costs_that_cannot_be_are_refused(costs, message):
    with pytest.raises(ValueError, match=message):
        checked_costs(np.array(costs, float))


def test_the_diagonal_is_ignored():
    np.testing.assert_array_equal(checked_costs([[9.0, 1.0], [2.0, np.inf]]), [[0, 1], [2, 0]])


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (1e300, "costs must be between 1e-37 and 1e30; crow, owl is 1e"),
        (1e-60, "crow, owl is 1e-60"),
        (-8.0, "costs must be finite and not negative; crow, owl is -8"),
        (np.nan, "crow, owl is nan"),
    ],
)
def test_what_float32_cannot_hold_is_refused_by_name(cost, message):
    with pytest.raises(ValueError, match=message):
        checked_costs(np.array([[5.0, cost], [1.0, 0.0]]), ("crow", "owl"))
