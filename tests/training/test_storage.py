"""Counts and pair weights split by row, or the most frequent alone: the same training where they hold all."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import StopAt, epoch_counts

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import ByClassPairWeights, DensePairWeights, TopConfusions, TopPairWeights
from cdml_jax.confusion.figures import accuracy, mean_class_error
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.runs import loop
from cdml_jax.runs.checkpoint import Checkpoints
from cdml_jax.runs.entries import weights_of_epoch
from cdml_jax.sampling import sample_triplets
from cdml_jax.training.epoch import plan_of_epoch
from cdml_jax.training.program import Program
from cdml_jax.training.storage import make_storage
from cdml_jax.training.storage.parts import draw_parts
from cdml_jax.training.storage.top import merge_on_devices


def program(config, dataset, storage, devices=8, **confusion):
    changes = {f"confusion.{key}": value for key, value in confusion.items()}
    config = changed(config, {"confusion.storage": storage, **changes})
    return Program(config, dataset, devices=jax.devices()[:devices])


def matrix_of(pairs, classes=6):
    """(C, C) of pair weights however stored."""
    places = np.argwhere(~np.eye(classes, dtype=bool))
    matrix = np.zeros((classes, classes))
    matrix[tuple(places.T)] = pairs.at(places)
    return matrix


@pytest.fixture(scope="module")
def trained():
    return {}


def train(trained, config, dataset, storage, devices=8):
    """One epoch of warm-up, in which nothing is drawn by confusion."""
    if storage not in trained:
        made = program(config, dataset, storage, devices)
        trained[storage] = made, loop.fit(made, METHODS["cdml"], 3, until_epoch=1)
    return trained[storage]


@pytest.mark.parametrize(("storage", "devices"), [("by_class", 8), ("top", 4)])
def test_a_run_is_the_same_however_its_counts_are_stored(trained, config, dataset, storage, devices):
    """Six classes: five counters hold every wrong answer, so even these lose nothing."""
    _, dense = train(trained, config, dataset, "dense")
    made, run = train(trained, config, dataset, storage, devices)
    assert made.traces["step"] == 1
    np.testing.assert_allclose(run.statistics.rates, dense.statistics.rates, rtol=1e-4)
    np.testing.assert_allclose(
        matrix_of(run.statistics.pairs), dense.statistics.pairs.matrix, rtol=1e-3, atol=1e-6
    )
    entry, expected = run.history[0], dense.history[0]
    for name in ("loss", "accuracy", "mean_class_error", "valid_share"):
        assert entry[name] == pytest.approx(expected[name], rel=1e-4), name
    assert entry["confused_pairs"] == expected["confused_pairs"] == []  # all pairs weigh the same
    watched = dense.statistics.pairs.on_host().largest(3)
    np.testing.assert_array_equal(run.statistics.pairs.on_host().largest(3), watched)
    logged = [
        weights_of_epoch(
            SimpleNamespace(watched_pairs=watched, class_weights=np.ones(6)),
            each.statistics,
            [0.5] * 3,
            "abcdef",
        )["confused_pairs"]
        for each in (run, dense)
    ]
    for ours, theirs in zip(*logged, strict=True):
        assert ours["weight"] == pytest.approx(theirs["weight"], 1e-3)
        assert ours["weight"] > 1 / 30
        assert {**ours, "weight": 0} == {**theirs, "weight": 0}


def test_split_rows_count_and_draw_exactly_as_whole_ones_do(trained, config, dataset):
    """The same order, the same triplets: the costs of the next epoch are the same arrays."""
    dense, run = train(trained, config, dataset, "dense")
    split, _ = train(trained, config, dataset, "by_class")
    for counts in ("hard", "soft"):
        totals = [p.total_counts(run.state, "validation", soft=counts == "soft") for p in (dense, split)]
        np.testing.assert_allclose(totals[0].matrix, totals[1].on_host().matrix, rtol=1e-6)
    pairs = ByClassPairWeights(np.pad(run.statistics.pairs.matrix, ((0, 58), (0, 0))))
    keys = jax.random.split(jax.random.key(1), 2)
    labels = np.random.default_rng(0).integers(-1, 6, (2, 24)).astype(np.int32)
    sample = functools.partial(sample_triplets, num_triplets=32)
    whole = dense.storage.draw(keys, labels, run.statistics.pairs, sample)
    by_class = jax.jit(split.storage.draw, static_argnames="sample")(
        keys, labels, split.storage.put_pairs(pairs), sample=sample
    )
    assert all(np.array_equal(a, b) for a, b in zip(whole, by_class))


@pytest.mark.parametrize(("storage", "elsewhere"), [("by_class", 2), ("top", 8), ("top", 2)])
def test_a_run_continues_here_and_on_other_devices(config, dataset, tmp_path, storage, elsewhere):
    settings = {"decay": 0.5, "top_k": 2, "counts": "hard"}
    eight = program(config, dataset, storage, 8, **settings)
    with pytest.raises(loop.Interrupted) as stopped:
        loop.fit(eight, METHODS["cdml"], 1, folder=tmp_path, stop=StopAt(10))
    assert stopped.value.step % eight.steps_per_epoch > 0, "in the middle of an epoch"
    saved = Checkpoints(tmp_path / "checkpoints", keep=1).restore(eight)
    there = program(config, dataset, storage, elsewhere, **settings)
    moved = Checkpoints(tmp_path / "checkpoints", keep=1).restore(there)
    before, after = (
        epoch_counts(eight, saved.state),
        epoch_counts(there, moved.state),
    )
    for a, b in zip(jax.tree.leaves((before, saved.counts)), jax.tree.leaves((after, moved.counts))):
        assert np.array_equal(np.sort(a), np.sort(b))
    if elsewhere == 8:
        finished = loop.fit(there, METHODS["cdml"], 1, folder=tmp_path)
        straight = loop.fit(eight, METHODS["cdml"], 1)
        for a, b in zip(
            jax.tree.leaves((straight.state, straight.counts)),
            jax.tree.leaves((finished.state, finished.counts)),
            strict=True,
        ):
            if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_counters_that_do_not_hold_all_keep_rates_exact(config, dataset):
    made = program(config, dataset, "top", 8, top_k=2, counts="hard", decay=0.0)
    dense = program(config, dataset, "dense", 8, counts="hard", decay=0.0)
    state = made.initial_state(0)
    hard, soft = (made.evaluate(state, "validation", soft=soft) for soft in (False, True))
    start = dense.initial_state(0)
    whole, probabilities = (dense.evaluate(start, "validation", soft=soft) for soft in (False, True))
    assert isinstance(hard, TopConfusions)
    assert hard.values.shape == (6, 2)
    assert accuracy(hard) == pytest.approx(accuracy(whole))
    assert mean_class_error(hard) == pytest.approx(mean_class_error(whole))
    np.testing.assert_allclose(soft.errors + soft.correct, probabilities.matrix.sum(axis=1), rtol=1e-5)


def test_counters_are_merged_on_the_host_as_they_are_on_the_devices():
    """Bit for bit: floats that depend on the order in which they are added, on more devices than counters."""
    mesh = mesh_lib.make_mesh(8)
    storage, rng = make_storage("top", 11, 3, mesh), np.random.default_rng(0)
    indices = rng.integers(0, 4, (8, 11, 1)) + np.arange(3) * 4
    values = np.exp(rng.normal(0, 9, indices.shape)).astype(np.float32)
    counts = TopConfusions(indices.astype(np.int32), values, values.sum(axis=2) * 3, values[:, :, 0])
    counts = jax.device_put(counts, storage.shardings())
    merged = storage.total(counts)
    on_devices = jax.jit(merge_on_devices, static_argnames="mesh")(counts, mesh=mesh)
    for ours, theirs in zip(merged, on_devices, strict=True):
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_uniform_pairs_and_watched_pairs_are_those_of_the_matrix():
    rng = np.random.default_rng(0)
    excess = np.float32(rng.random((6, 2)))
    indices = np.array([[1, 2], [0, 5], [3, -1], [4, 0], [5, 1], [-1, -1]], np.int32)
    excess[indices < 0] = 0
    top = TopPairWeights(indices, excess, np.float32([0.01, 0.02, 0.9, 0.01, 0.0, 0.02]))
    whole = DensePairWeights(np.float32(matrix_of(top)))
    for number in (3, 10, 30):
        assert np.array_equal(top.largest(number), whole.largest(number))
    np.testing.assert_allclose(matrix_of(top.uniform()), (1 - np.eye(6)) / 30, rtol=1e-6)


def test_rows_with_uniform_pairs_plan_in_any_storage(trained, config, dataset):
    for storage in ("by_class", "top"):
        made, run = train(trained, config, dataset, storage)
        labels = dataset.splits["train"].labels
        facts = made.facts(run.statistics, run.counts)
        plan = plan_of_epoch(METHODS["uniform_pairs"], made.config, labels, facts, seed=0, epoch=3)
        costs = made.put_costs(plan.costs)
        np.testing.assert_allclose(matrix_of(costs.pair_weights), (1 - np.eye(6)) / 30, rtol=1e-5)


def test_no_device_holds_a_matrix_of_split_rows(config, dataset):
    made = program(config, dataset, "by_class")
    counts, pairs = made.abstract_state().counts, made.abstract_costs().pair_weights.padded
    for matrix in (counts, pairs):
        assert matrix.sharding.shard_shape(matrix.shape) == (8, 6)


def test_what_a_storage_cannot_do_is_refused(config, dataset):
    with pytest.raises(UserError, match="symmetric: True needs all pairs"):
        program(config, dataset, "top", 1, symmetric=True)
    for storage in ("top", "by_class"):
        with pytest.raises(UserError, match="Confusion-weighted logits needs the weights of all pairs"):
            loop.fit(program(config, dataset, storage, 1), METHODS["pair_costs"], 0)


def test_columns_of_logits_over_model_count_the_same(config, dataset):
    config = changed(config, {"mesh.model": 2})
    for storage in ("by_class", "top"):
        made = program(config, dataset, storage, 8)
        assert made.mesh.shape[mesh_lib.MODEL] == 2
        hard = made.evaluate(made.initial_state(0), "validation")
        alone = program(changed(config, {"mesh.model": 1}), dataset, storage, 1)
        expected = alone.evaluate(alone.initial_state(0), "validation")
        assert accuracy(hard) == accuracy(expected)


def test_one_microbatch_is_drawn_as_each_of_several():
    keys, labels = jax.random.split(jax.random.key(3), 4), jnp.arange(48).reshape(4, 12) % 5
    pairs = DensePairWeights(jnp.asarray(np.random.default_rng(0).random((5, 5)), jnp.float32))
    sample = functools.partial(sample_triplets, num_triplets=20)
    together = draw_parts(keys, labels, pairs, sample)
    for part in range(4):
        alone = draw_parts(keys[part : part + 1], labels[part : part + 1], pairs, sample)
        jax.tree.map(lambda a, b, k=part: np.testing.assert_array_equal(a[0], b[k]), alone, together)
