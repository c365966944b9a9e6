"""Pairs of rows drawn by confusion: their law, and what is never drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cdml_jax.confusion import pair_weights
from cdml_jax.sampling.triplets import sample_pairs

LABELS = np.array([0, 0, 0, 1, 2, 2, 4, 1], np.int32)
WHERE = np.arange(8) != 7


@pytest.fixture
def weights():
    rng = np.random.default_rng(1)
    return np.float32(rng.random((5, 5)) * (1 - np.eye(5)))


def test_class_pairs_follow_the_weights_and_rows_are_uniform_in_their_classes(weights):
    pairs = sample_pairs(jax.random.key(0), LABELS, weights, num_pairs=40_000, where=WHERE)
    assert bool(pairs.valid.all())
    found = np.zeros((8, 8))
    np.add.at(found, (np.asarray(pairs.first), np.asarray(pairs.second)), 1)
    number = np.array([(LABELS[WHERE] == c).sum() for c in range(5)])
    law = np.zeros((8, 8))
    for i in np.flatnonzero(WHERE):
        for j in np.flatnonzero(WHERE):
            law[i, j] = weights[LABELS[i], LABELS[j]] / number[LABELS[i]] / number[LABELS[j]]
    law *= found.sum() / law.sum()
    assert (found[law == 0] == 0).all()
    assert stats.power_divergence(found[law > 0], law[law > 0], lambda_="log-likelihood").pvalue > 1e-3


def test_a_class_with_one_row_can_be_first(weights):
    alone = np.zeros((5, 5), np.float32)
    alone[4, 1] = 1
    pairs = sample_pairs(jax.random.key(1), LABELS, alone, num_pairs=5, where=WHERE)
    assert pairs.first.tolist() == [6] * 5
    assert pairs.second.tolist() == [3] * 5


@pytest.mark.parametrize("labels", [np.zeros(4, np.int32), np.full(4, -1, np.int32)])
def test_nothing_is_valid_where_no_pair_is_there(labels, weights):
    pairs = sample_pairs(jax.random.key(0), labels, weights, num_pairs=3)
    assert not bool(pairs.valid.any())
    assert pairs.first.tolist() == pairs.second.tolist() == [0, 0, 0]


def test_what_rows_that_do_not_count_are_called_changes_nothing(weights):
    other = np.where(WHERE, LABELS, 99).astype(np.int32)
    ours, theirs = (
        sample_pairs(jax.random.key(3), labels, weights, num_pairs=50, where=WHERE)
        for labels in (LABELS, other)
    )
    for one, two in zip(ours, theirs):
        np.testing.assert_array_equal(one, two)


def test_pair_weights_of_counts_are_taken(weights):
    counts = jnp.int32(np.arange(25).reshape(5, 5))
    pairs = jax.jit(lambda key: sample_pairs(key, LABELS, pair_weights(counts), num_pairs=9))(
        jax.random.key(0)
    )
    assert (LABELS[np.asarray(pairs.first)] != LABELS[np.asarray(pairs.second)]).all()
