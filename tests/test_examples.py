"""The examples, run: the loss falls, the confusable classes are found, one trace, the same on all devices."""

import functools
import importlib
from pathlib import Path

import jax
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
EPOCHS = 4


@pytest.fixture(scope="module")
def run():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield functools.cache(lambda name: importlib.import_module(name).main(epochs=EPOCHS))


@pytest.mark.parametrize("name", ["linen_jit", "nnx_jit", "pmap", "shard_map"])
def test_an_example_learns_and_finds_the_confusable_classes(run, name):
    result, toy = run(name), importlib.import_module("toy")
    assert len(result.losses) == EPOCHS
    assert result.losses[-1] < result.losses[0] / 3
    assert result.traces == 1
    assert set(np.argsort(result.class_weights)[-2:].tolist()) == set(toy.CONFUSABLE)
    pair = np.unravel_index(result.pair_weights.argmax(), result.pair_weights.shape)
    assert {int(i) for i in pair} == set(toy.CONFUSABLE)
    first, second = toy.CONFUSABLE
    assert result.pair_weights[first, second] + result.pair_weights[second, first] > 0.5
    assert "traced 1 time" in toy.describe(result)


@pytest.mark.parametrize("name", ["pmap", "shard_map"])
def test_many_devices_train_what_one_trains(run, name):
    assert jax.local_device_count() > 1
    one, many = run("linen_jit"), run(name)
    np.testing.assert_allclose(many.losses, one.losses, rtol=1e-5)
    np.testing.assert_allclose(many.class_weights, one.class_weights, rtol=1e-5)
    np.testing.assert_allclose(many.pair_weights, one.pair_weights, rtol=1e-5, atol=1e-6)
    leaves, paths = jax.tree.leaves(many.parameters), jax.tree_util.tree_leaves_with_path(one.parameters)
    assert len(leaves) == len(paths)
    for leaf, (path, expected) in zip(leaves, paths):
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-5, err_msg=jax.tree_util.keystr(path))
