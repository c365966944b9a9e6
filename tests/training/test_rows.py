"""What each row tells the step, before and after the warm-up."""

import numpy as np
import pytest

<<<<<<< HEAD
from cdml_jax.confusion import DenseConfusion
=======
from cdml_jax.configuration.settings import changed
>>>>>>> settings
from cdml_jax.errors import UserError
from cdml_jax.sampling import composition_correction, expected_class_shares
from cdml_jax.training.rows import (
    PAPER_ROWS,
    ROWS,
    named_row,
    plan_row_epoch,
    statistics_of,
)

COUNTS = np.array(
    [
        [10, 6, 0, 0, 0, 0],
        [3, 12, 1, 0, 0, 0],
        [0, 0, 16, 4, 0, 0],
        [0, 1, 0, 14, 0, 0],
        [0, 0, 0, 0, 15, 1],
        [2, 0, 0, 0, 5, 9],
    ],
    np.float32,
)
CONFUSION = DenseConfusion(COUNTS)


@pytest.fixture
def epoch_of(config, dataset):
    labels = dataset.splits["train"].labels
    statistics = statistics_of(CONFUSION, config.confusion)

<<<<<<< HEAD
    def plan(row, epoch=3):
        return plan_row_epoch(ROWS[row], config, labels, CONFUSION, statistics, seed=0, epoch=epoch)
=======
    def plan(row, epoch=3, **changes):
        settings = changed(config, changes)
        return plan_row_epoch(ROWS[row], settings, labels, COUNTS, statistics, seed=0, epoch=epoch)
>>>>>>> settings

    return plan


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_the_baseline_while_it_warms_up(epoch_of, row):
    ours, baseline = epoch_of(row, epoch=0), epoch_of("baseline", epoch=0)
    assert np.array_equal(ours.order, baseline.order)
    assert (ours.costs.class_weights == 1).all()
    assert ours.costs.triplet_weight == 0
    assert ours.costs.focal_gamma == 0
    assert ours.costs.mining == 0
    assert ours.costs.pair_beta == 0


@pytest.mark.parametrize(
    ("row", "weighted", "triplets", "composed"),
    [
        ("baseline", False, False, False),
        ("weighted_softmax", True, False, False),
        ("confusion_driven", False, True, True),
        ("cdml", True, True, True),
        ("composition_only", False, False, True),
        ("triplets_only", False, True, False),
    ],
)
def test_rows_turn_on_what_they_are_named_for(epoch_of, row, weighted, triplets, composed):
    costs, order = epoch_of(row, **{"sampling.composition_correction": False})
    assert (np.ptp(costs.class_weights) > 0) == weighted
    assert (costs.triplet_weight > 0) == triplets
    assert np.array_equal(order, epoch_of("baseline").order) != composed


def test_class_weights_are_those_of_the_configuration(epoch_of):
    changes = {"objective.mode": "rate", "objective.normalize": False, "confusion.smoothing": 0.0}
    costs, _ = epoch_of("weighted_softmax", **changes)
    np.testing.assert_allclose(costs.class_weights, 1 - np.diag(COUNTS) / COUNTS.sum(1), rtol=1e-5)


def test_composed_rows_correct_for_what_they_show(config, dataset, epoch_of):
    labels = dataset.splits["train"].labels
    statistics = statistics_of(CONFUSION, config.confusion)
    shares = expected_class_shares(
        labels,
        statistics.rates,
        statistics.pairs.matrix,
        batch_size=16,
        composed=0.5,
        images_per_class=2,
        classes_per_group=2,
    )
    np.testing.assert_allclose(
        epoch_of("confusion_driven").costs.class_weights, composition_correction(labels, shares), rtol=1e-6
    )


def test_uniform_pairs_know_nothing_of_confusion(epoch_of):
    costs, order = epoch_of("uniform_pairs")
    off_diagonal = costs.pair_weights.matrix[~np.eye(6, dtype=bool)]
    assert (off_diagonal == off_diagonal[0]).all()
    assert not np.array_equal(order, epoch_of("confusion_driven").order)


def test_in_batch_uniform_composes_by_confusion_and_draws_uniformly(epoch_of):
    by_confusion = epoch_of("cdml")
    costs, order = epoch_of("cdml", **{"objective.in_batch": "uniform"})
    assert np.array_equal(order, by_confusion.order)
    assert np.ptp(costs.pair_weights.matrix[~np.eye(6, dtype=bool)]) == 0


def test_inverse_frequency_weighs_small_classes_more(epoch_of):
    weights = epoch_of("inverse_frequency").costs.class_weights
    np.testing.assert_allclose(weights * [20, 20, 16, 12, 20, 12], weights[0] * 20, rtol=1e-5)


def test_most_confused_pairs_come_first():
    pairs = CONFUSION.statistics(smoothing=0.0, symmetric=False).pairs
    assert pairs.largest(3).tolist() == [[0, 1], [5, 4], [2, 3]]


def test_the_papers_rows_are_there_and_others_are_refused():
    assert set(PAPER_ROWS) <= set(ROWS)
    with pytest.raises(UserError, match="choose one of baseline"):
        named_row("cdlm")
