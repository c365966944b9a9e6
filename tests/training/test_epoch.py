"""What each method gives the step, before and after the warm-up."""

import numpy as np
import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import DenseConfusion
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS, PAPER, Facts, Method, known_methods, named_method, uniform
from cdml_jax.sampling import composition_correction, expected_class_shares
from cdml_jax.training.epoch import check_method, plan_of_epoch, statistics_of

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

    def plan(method, epoch=3, **changes):
        settings = changed(config, changes)
        facts = Facts(
            statistics,
            np.bincount(labels),
            dataset.classes,
            confusion=CONFUSION,
            smoothing=settings.confusion.smoothing,
            mode=settings.objective.mode,
            beta=settings.objective.beta,
            normalize=settings.objective.normalize,
        )
        method = METHODS[method] if isinstance(method, str) else method
        return plan_of_epoch(method, settings, labels, facts, seed=0, epoch=epoch)

    return plan


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_the_baseline_while_it_warms_up(epoch_of, method):
    ours, baseline = epoch_of(method, epoch=0), epoch_of("baseline", epoch=0)
    assert np.array_equal(ours.order, baseline.order)
    assert (ours.costs.class_weights == 1).all()
    assert ours.costs.triplet_weight == 0
    assert ours.costs.focal_gamma == 0
    assert ours.costs.miner == 0
    assert ours.costs.pair_beta == 0


@pytest.mark.parametrize(
    ("method", "weighted", "triplets", "composed"),
    [
        ("baseline", False, False, False),
        ("weighted_softmax", True, False, False),
        ("confusion_driven", False, True, True),
        ("cdml", True, True, True),
        ("composition_only", False, False, True),
        ("triplets_only", False, True, False),
    ],
)
def test_methods_turn_on_what_they_are_named_for(epoch_of, method, weighted, triplets, composed):
    costs, order = epoch_of(method, **{"sampling.composition_correction": False})
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


def test_the_papers_methods_are_there_and_others_are_refused():
    assert PAPER == ("baseline", "weighted_softmax", "confusion_driven", "cdml")
    with pytest.raises(UserError, match="did you mean cdml"):
        named_method("cdlm")


def test_a_method_of_ones_own_brings_its_own_functions(epoch_of):
    def by_size(facts):
        return np.float32(facts.sizes / facts.sizes.mean())

    method = Method("By size", class_weights=by_size, pair_weights=uniform, miner="drawn")
    costs, order = epoch_of(method)
    np.testing.assert_allclose(costs.class_weights, np.array([20, 20, 16, 12, 20, 12]) * 6 / 100, rtol=1e-6)
    assert costs.triplet_weight > 0
    assert np.array_equal(order, epoch_of("baseline").order)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"mine": "CDML"}, "mine is str, not a"),
        ({"cdml": Method("Mine")}, "cdml is a method of the package"),
        ({"a/b": Method("Mine")}, "'a/b' names files"),
    ],
)
def test_what_a_file_gives_as_methods_is_checked(own, message):
    with pytest.raises(UserError, match=message):
        known_methods(own)


def test_methods_of_a_file_stand_beside_those_of_the_package():
    mine = Method("Mine")
    assert known_methods({"mine": mine}) == METHODS | {"mine": mine}
    assert named_method("mine", known_methods({"mine": mine})) is mine


def test_a_miner_that_is_not_there_is_refused(config):
    with pytest.raises(UserError, match="miner 'hardest' is unknown; choose one of drawn, batch_hard"):
        check_method(Method("Mine", miner="hardest"), None)


def test_costs_take_the_place_of_the_confusion(config):
    costs = np.float32(np.arange(36).reshape(6, 6) % 5) * (1 - np.eye(6, dtype=np.float32))
    rates, pairs = statistics_of(CONFUSION, config.confusion, costs)
    confused = CONFUSION.statistics(smoothing=config.confusion.smoothing, symmetric=False).pairs.matrix
    expected = (np.float64(costs) * confused).sum(1)
    np.testing.assert_allclose(rates, expected / expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(pairs.matrix, costs / costs.sum(), rtol=1e-6)
    nothing = DenseConfusion(np.zeros((6, 6), np.float32))
    assert (statistics_of(nothing, config.confusion, costs).rates == 1).all()
