"""The step with terms beside its two costs: what they add, and what they leave as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import DensePairWeights
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods import METHODS, Method
from cdml_jax.methods.structure import PLAIN, Structure
from cdml_jax.methods.terms import ConfusedPairs, PairwiseConfusion
from cdml_jax.models.pixels import normalize_images
from cdml_jax.runs import loop
from cdml_jax.sampling.triplets import sample_pairs
from cdml_jax.training.objective import TERMS
from cdml_jax.training.program import Program
from cdml_jax.training.state import Costs

TERM_OF = {term.name: term for term in (PairwiseConfusion(), ConfusedPairs())}
WEIGHT = 0.8
ROWS = 16


def structure_of(*names):
    return Structure("tried", tuple(TERM_OF[name] for name in names))


def make_costs(*names, weight=WEIGHT, triplet_weight=0.7):
    pairs = np.random.default_rng(5).random((6, 6)) * (1 - np.eye(6))
    return Costs(
        class_weights=np.float32([0.5, 2.0, 1.0, 0.1, 1.4, 1.0]),
        pair_weights=DensePairWeights(np.float32(pairs / pairs.sum())),
        triplet_weight=np.float32(triplet_weight),
        focal_gamma=np.float32(0),
        pair_beta=np.float32(0),
        miner=np.int32(0),
        watched_pairs=np.int32([[0, 1], [1, 0], [2, 3]] + [[4, 5]] * 7),
        terms={name: np.float32(weight) for name in names},
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (ROWS, 16, 16, 3)).astype(np.uint8),
        "label": rng.integers(0, 6, ROWS).astype(np.int32),
        "mask": rng.permutation(ROWS) >= 3,
        "index": np.arange(ROWS, dtype=np.int32),
    }


@pytest.fixture
def config(config):
    """No row's output depends on another's, and updates are the gradients times the learning rate."""
    return changed(
        config,
        {
            "model.name": "tiny_plain",
            "optimizer.momentum": 0.0,
            "optimizer.clip_norm": 0.0,
            "optimizer.weight_decay": 0.0,
            "optimizer.warmup_share": 0.0,
        },
    )


@pytest.fixture
def wide(config, float64):
    return changed(config, {"model.dtype": "float64"})


def after_a_step(config, dataset, batch, *names, devices=1, weight=WEIGHT, triplet_weight=0.7):
    program = Program(config, dataset, jax.devices()[:devices], structure=structure_of(*names))
    costs = make_costs(*names, weight=weight, triplet_weight=triplet_weight)
    placed = mesh_lib.put_batch(program.mesh, batch), mesh_lib.put_replicated(program.mesh, costs)
    return program.step(program.initial_state(3), *placed)


def assert_close(ours, theirs, **tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def pairs_by_hand(name, state, batch):
    """First rows, second rows and whether the pair counts."""
    labels, real = batch["label"], batch["mask"]
    if name == "confused_pairs":
        key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(state.key, TERMS), 0), 0)
        return sample_pairs(
            jax.random.split(key, 1)[0],
            jnp.asarray(labels),
            make_costs().pair_weights,
            num_pairs=ROWS // 2,
            where=jnp.asarray(real),
        )
    first, second = np.arange(ROWS // 2), np.arange(ROWS // 2) + ROWS // 2
    return first, second, real[first] & real[second] & (labels[first] != labels[second])


def test_terms_need_names_of_their_own():
    with pytest.raises(ValueError, match="pairwise_confusion, pairwise_confusion"):
        Structure("twice", (PairwiseConfusion(), PairwiseConfusion(0.1)))


def test_structures_are_compared_by_their_content():
    assert Structure("other", (PairwiseConfusion(),)) == structure_of("pairwise_confusion")
    assert hash(Structure("other", (PairwiseConfusion(),))) == hash(structure_of("pairwise_confusion"))
    assert Structure("other", (PairwiseConfusion(0.1),)) != structure_of("pairwise_confusion")
    assert structure_of("confused_pairs") != structure_of("pairwise_confusion") != PLAIN


def test_published_weights_are_those_of_the_mean_over_pairs():
    """The paper's 0.1 C to 0.2 C are of a sum over pairs divided by the rows, which are twice as many."""
    assert PairwiseConfusion().weight(200) == pytest.approx(10)
    assert ConfusedPairs(0.1).weight(200) == pytest.approx(20)


def traced(program):
    arguments = program.abstract_state(), program.abstract_batch(), program.abstract_costs()
    return str(program.step.trace(*arguments).jaxpr)


def test_a_step_without_terms_computes_nothing_for_them(config, dataset):
    """Two keys are folded, by purpose and step, and no pair of rows is looked at."""
    plain, other = (traced(Program(config, dataset, structure=s)) for s in (PLAIN, Structure("other")))
    assert plain == other
    assert plain.count("random_fold_in") == 2
    pairs = f"f32[{ROWS // 2},6]"  # probabilities of one side of the pairs
    assert pairs not in plain
    termed = traced(Program(config, dataset, structure=structure_of("pairwise_confusion")))
    assert pairs in termed


@pytest.mark.parametrize("name", TERM_OF)
def test_one_step_adds_the_term_by_hand(config, dataset, batch, name):
    plain = after_a_step(config, dataset, batch)
    program = Program(config, dataset, jax.devices()[:1], structure=structure_of(name))
    state = program.initial_state(3)
    first, second, valid = map(np.asarray, pairs_by_hand(name, state, batch))
    assert valid.any()
    before = jax.tree.map(np.asarray, state.parameters)
    statistics = jax.tree.map(np.asarray, state.batch_statistics)

    def by_hand(parameters):
        network = nnx.merge(program.graph, parameters, statistics)
        logits, _ = network(normalize_images(jnp.asarray(batch["image"])), train=True)
        p = jax.nn.softmax(logits)
        return (valid * ((p[first] - p[second]) ** 2).sum(axis=1)).sum() / valid.sum()

    value, gradients = jax.value_and_grad(by_hand)(before)
    found = after_a_step(config, dataset, batch, name)
    logged = found.metrics[f"{name}_loss"]
    np.testing.assert_allclose(logged.total / logged.number, value, rtol=1e-5)
    assert logged.number == valid.sum()
    np.testing.assert_allclose(
        found.metrics["loss"].total, plain.metrics["loss"].total + WEIGHT * value, rtol=1e-6
    )
    rate = config.optimizer.learning_rate
    expected = jax.tree.map(lambda p, g: p - rate * WEIGHT * g, plain.parameters, gradients)
    assert_close(found.parameters, expected, rtol=1e-5, atol=1e-6)


def test_terms_of_no_weight_change_nothing(wide, dataset, batch):
    plain = after_a_step(wide, dataset, batch)
    found = after_a_step(wide, dataset, batch, *TERM_OF, weight=0)
    metrics = {name: found.metrics[name] for name in plain.metrics}
    assert found.metrics.keys() - metrics.keys() == {f"{name}_loss" for name in TERM_OF}
    for ours, theirs in ((found.parameters, plain.parameters), (metrics, plain.metrics)):
        assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert_close(found.counts, plain.counts, rtol=1e-12, atol=1e-12)


def test_one_trace_serves_the_methods_epochs_and_seeds_of_a_structure(config, dataset):
    program = Program(config, dataset, jax.devices()[:1], structure=structure_of("confused_pairs"))
    for seed, (miner, name) in enumerate([("", "one"), ("batch_hard", "two")]):
        method = Method(name, miner=miner, structure=Structure(name, (ConfusedPairs(),)))
        run = loop.fit(program, method, seed, until_epoch=2)
        logged = [entry["confused_pairs_loss"] for entry in run.history]
        assert np.isfinite(logged).all()
    assert program.traces["step"] == 1


def test_a_method_of_another_structure_is_refused(config, dataset):
    program = Program(config, dataset, jax.devices()[:1])
    with pytest.raises(ValueError, match="another structure"):
        loop.fit(program, Method("Pairs", structure=structure_of("confused_pairs")), 0)
    assert METHODS["cdml"].structure == PLAIN


def test_halves_do_not_depend_on_microbatches(wide, dataset, batch):
    """The sums are divided once, by the pairs of all microbatches, whose halves are those of the batch."""
    one, two = (
        after_a_step(
            changed(wide, {"accumulation": parts}), dataset, batch, "pairwise_confusion", triplet_weight=0
        )
        for parts in (1, 2)
    )
    assert_close(two.parameters, one.parameters, rtol=1e-12, atol=1e-12)
    assert_close(two.metrics["pairwise_confusion_loss"], one.metrics["pairwise_confusion_loss"], rtol=1e-12)


@pytest.mark.parametrize("devices", [2, 4])
def test_terms_are_those_of_the_global_batch(config, dataset, batch, devices):
    one = after_a_step(config, dataset, batch, *TERM_OF)
    many = after_a_step(config, dataset, batch, *TERM_OF, devices=devices)
    assert_close((many.parameters, many.metrics), (one.parameters, one.metrics), rtol=1e-5, atol=2e-6)


def test_what_padded_rows_hold_changes_no_term(config, dataset, batch):
    rubbish = {**batch, "image": batch["image"].copy(), "label": batch["label"].copy()}
    rubbish["image"][~batch["mask"]] = 255
    rubbish["label"][~batch["mask"]] = 5
    ours, theirs = (after_a_step(config, dataset, rows, *TERM_OF) for rows in (batch, rubbish))
    assert_close((ours.parameters, ours.metrics), (theirs.parameters, theirs.metrics), rtol=1e-6, atol=1e-7)


def test_a_batch_of_one_class_has_no_pair(config, dataset, batch):
    batch["label"][:] = 2
    plain = after_a_step(config, dataset, batch)
    found = after_a_step(config, dataset, batch, *TERM_OF)
    assert_close(found.parameters, plain.parameters, rtol=1e-6, atol=1e-7)
    for name in TERM_OF:
        assert found.metrics[f"{name}_loss"].number == found.metrics[f"{name}_loss"].total == 0
