"""Methods that train the same are named, and no others."""

import numpy as np
import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import DenseConfusion
from cdml_jax.methods import METHODS, Facts
from cdml_jax.methods.alike import alike
from cdml_jax.training.epoch import plan_of_epoch

_USUAL = {"composed": 0.5, "triplet_weight": 0.3, "pair_beta": 1.0, "in_batch": "confusion"}


def test_no_two_methods_are_the_same_at_the_usual_settings():
    assert alike(METHODS, **_USUAL) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"composed": 0.0}, {"batch_hard", "confusion_hard"}),
        ({"composed": 0.0}, {"baseline", "composition_only"}),
        ({"composed": 0.0, "in_batch": "uniform"}, {"uniform_pairs", "triplets_only", "confusion_driven"}),
        ({"triplet_weight": 0.0}, {"cdml_soft_mining"}),
        ({"pair_beta": 0.0}, {"baseline", "pair_costs"}),
    ],
)
def test_methods_that_settings_make_the_same_are_named_together(changes, expected):
    groups = [set(names) for names in alike(METHODS, **{**_USUAL, **changes})]
    together = any(expected <= group for group in groups)
    assert together == (len(expected) > 1)


def test_the_plan_of_an_epoch_agrees(config, dataset):
    """Of methods said to be the same it is the same, down to the order of the images."""
    config = changed(config, {"sampling.composed": 0.0})
    labels = dataset.splits["train"].labels
    counts = DenseConfusion(np.float32([[9, 3, 0, 0, 0, 0]] + [[0, 1, 8, 0, 2, 0]] * 5))
    statistics = counts.statistics(smoothing=1.0, symmetric=False)
    facts = Facts(statistics, np.bincount(labels), dataset.classes, counts)
    groups = alike(METHODS, **{**_USUAL, "composed": 0.0})
    assert len(groups) > 2
    for first, *others in groups:
        planned = plan_of_epoch(METHODS[first], config, labels, facts, seed=0, epoch=3)
        for name in others:
            plan = plan_of_epoch(METHODS[name], config, labels, facts, seed=0, epoch=3)
            np.testing.assert_array_equal(plan.order, planned.order)
            np.testing.assert_array_equal(plan.costs.class_weights, planned.costs.class_weights)
            assert plan.costs.miner == planned.costs.miner
            assert plan.costs.triplet_weight == planned.costs.triplet_weight
