"""Methods with terms: they fork from the baseline's warm-up and log their term."""

import jax
import numpy as np
import pytest

from cdml_jax.methods import METHODS
from cdml_jax.runs import loop
from cdml_jax.training.program import Program


@pytest.mark.parametrize("name", ["pairwise_confusion", "confused_pairs"])
def test_a_term_is_trained_after_the_baselines_warm_up(config, dataset, name):
    plain = Program(config, dataset, jax.devices()[:1])
    method = METHODS[name]
    own = Program(config, dataset, jax.devices()[:1], feeds=plain.feeds, structure=method.structure)
    warm = loop.fit(plain, METHODS["baseline"], 0, until_epoch=config.warmup_epochs)
    forked = loop.fit(own, method, 0, start=loop.fork(own, warm))
    straight = loop.fit(own, method, 0)
    for ours, theirs in zip(
        jax.tree.leaves(forked.state.parameters), jax.tree.leaves(straight.state.parameters), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert f"{name}_loss" not in warm.history[0]
    assert 0 < straight.history[-1][f"{name}_loss"] < 2
    assert own.traces["step"] == 1


def test_a_program_of_another_structure_is_refused(config, dataset):
    plain = Program(config, dataset, jax.devices()[:1])
    with pytest.raises(ValueError, match="another structure"):
        loop.fit(plain, METHODS["pairwise_confusion"], 0)
