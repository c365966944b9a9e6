"""Groups come from confusion, triplets from the batch."""

import numpy as np

from cdml_jax.confusion import DenseConfusion
from cdml_jax.methods import METHODS, Facts
from cdml_jax.sampling.mining import MINERS
from cdml_jax.training.epoch import plan_of_epoch


def test_groups_are_those_of_cdml_and_triplets_those_of_batch_hard(config, dataset):
    labels = dataset.splits["train"].labels
    counts = DenseConfusion(np.float32([[9, 3, 0, 0, 0, 0]] + [[0, 1, 8, 0, 2, 0]] * 5))
    facts = Facts(
        counts.statistics(smoothing=1.0, symmetric=False), np.bincount(labels), dataset.classes, counts
    )
    plans = {
        name: plan_of_epoch(METHODS[name], config, labels, facts, seed=0, epoch=3)
        for name in ("confusion_hard", "confusion_nearest", "confusion_driven", "batch_hard")
    }
    ours = plans["confusion_hard"]
    np.testing.assert_array_equal(ours.order, plans["confusion_driven"].order)
    assert not np.array_equal(ours.order, plans["batch_hard"].order)
    assert ours.costs.miner == plans["batch_hard"].costs.miner == list(MINERS).index("batch_hard")
    nearest = plans["confusion_nearest"]
    np.testing.assert_array_equal(nearest.order, ours.order)
    assert nearest.costs.miner == list(MINERS).index("drawn_hard")
