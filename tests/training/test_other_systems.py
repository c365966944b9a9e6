"""The step of the other systems: last maps, all pairs, two levels of labels, and images left out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import DensePairWeights
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods.mutual_channel import MutualChannel
from cdml_jax.methods.soft_mining import SoftMining
from cdml_jax.methods.structure import PLAIN, Dropping, Structure
from cdml_jax.methods.two_levels import FamilyCrossEntropy
from cdml_jax.models.pixels import normalize_images
from cdml_jax.regularizers import (
    class_aware_attention,
    mutual_channel_loss,
    soft_mined_contrastive_loss,
)
from cdml_jax.training.objective import TERMS
from cdml_jax.training.program import Program
from cdml_jax.training.state import Costs
from cdml_jax.training.storage import ImageRecord

ROWS, IMAGES = 16, 100  # of a batch, of the data set
MUTUAL, MINED, FAMILY = MutualChannel(), SoftMining(), FamilyCrossEntropy()
LOSSES = Structure("losses", terms=(MUTUAL, MINED), dropping=Dropping())
ALL = Structure("all", terms=(MUTUAL, MINED, FAMILY), part="two_levels", dropping=Dropping())
WEIGHTS = {"mutual_channel": 0.05, "soft_mining": 1.3, "family": 0.7}


def make_costs(structure, *, weights=WEIGHTS, dropped=0.3):
    pairs = np.random.default_rng(5).random((6, 6)) * (1 - np.eye(6))
    return Costs(
        class_weights=np.float32([0.5, 2.0, 1.0, 0.1, 1.4, 1.0]),
        pair_weights=DensePairWeights(np.float32(pairs / pairs.sum())),
        triplet_weight=np.float32(0),
        focal_gamma=np.float32(0),
        pair_beta=np.float32(0),
        miner=np.int32(0),
        watched_pairs=np.int32([[0, 1], [1, 0], [2, 3]] + [[4, 5]] * 7),
        terms={term.name: np.float32(weights[term.name]) for term in structure.terms},
        dropped=np.float32(dropped) if structure.dropping else None,
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (ROWS, 16, 16, 3)).astype(np.uint8),
        "label": rng.integers(0, 6, ROWS).astype(np.int32),
        "mask": rng.permutation(ROWS) >= 3,
        "index": rng.permutation(IMAGES)[:ROWS].astype(np.int32),
    }


@pytest.fixture
def config(config):
    """Updates are the gradients times the learning rate."""
    return changed(
        config,
        {
            "model.name": "tiny_map",
            "optimizer.momentum": 0.0,
            "optimizer.clip_norm": 0.0,
            "optimizer.weight_decay": 0.0,
            "optimizer.warmup_share": 0.0,
        },
    )


@pytest.fixture
def wide(config, float64):
    return changed(config, {"model.dtype": "float64"})


def record(rng):
    """What was remembered: the first half of the images was seen, ranks are those of another epoch."""
    seen = np.arange(IMAGES) < IMAGES // 2
    probabilities = rng.dirichlet(np.ones(6), IMAGES) * seen[:, None]
    ranks = rng.permutation(IMAGES) / IMAGES
    return ImageRecord(
        probabilities.astype(np.float16),
        np.where(seen, 0.5, -1).astype(np.float32),
        ranks.astype(np.float32),
    )


def began(program):
    """A state before a step, in which each image has its rank."""
    state = program.initial_state(3)
    if not program.structure.dropping:
        return state
    images = mesh_lib.put_replicated(program.mesh, record(np.random.default_rng(9)))
    return state._replace(images=images)


def compiled(function, *arguments):
    """Optimised as in use: unoptimised machine code of XLA gave NaN where four updates follow one another."""
    return function.lower(*arguments).compile()


@functools.lru_cache(maxsize=4)
def step_of(program):
    """The compiled step."""
    arguments = program.abstract_state(), program.abstract_batch(), program.abstract_costs()
    return compiled(program.step, *arguments)


def after_a_step(program, batch, **options):
    costs = make_costs(program.structure, **options)
    placed = mesh_lib.put_batch(program.mesh, batch), mesh_lib.put_replicated(program.mesh, costs)
    return step_of(program)(began(program), *placed)


def assert_close(ours, theirs, **tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@jax.jit
def ratio(logits, embeddings, labels, counted):
    attention = class_aware_attention(logits, labels)
    return soft_mined_contrastive_loss(embeddings, labels, attention, where=counted)


def test_one_step_is_the_one_by_hand_whatever_padding_and_microbatches(wide, dataset, batch):
    program = Program(wide, dataset, jax.devices()[:1], structure=ALL)
    state, images = began(program), record(np.random.default_rng(9))
    counted = batch["mask"] & (images.rank[batch["index"]] >= np.float32(0.3))
    assert 5 < counted.sum() < batch["mask"].sum()  # some are left out
    labels, families = batch["label"], np.array([0, 0, 1, 1, 2, 2])
    key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(state.key, TERMS), 0), 0)
    key = jax.random.split(key, 1)[0]
    before = jax.tree.map(np.asarray, state.parameters)
    costs = make_costs(ALL)

    def by_hand(parameters):
        network = nnx.merge(program.graph, parameters, {})
        x = network.front(normalize_images(jnp.asarray(batch["image"]), jnp.float64), 1, train=True)
        flat = x.reshape(ROWS, 16, 15)
        part = network.part
        first, _ = part.cell(jnp.zeros((ROWS, 15)), flat.mean(1))
        scores = jnp.stack([flat[:, p] @ jnp.eye(15) for p in range(16)], 1)
        scores = (scores * part.question(first)[:, None]).sum(2) / np.sqrt(15)
        seen = (jax.nn.softmax(scores)[:, :, None] * flat).sum(1)
        second, _ = part.cell(first, seen)
        logits, embeddings = network.heads(second)
        rows = np.arange(ROWS)
        softmax = -jax.nn.log_softmax(logits)[rows, labels] * costs.class_weights[labels]
        of_family = -jax.nn.log_softmax(part.family(first))[rows, families[labels]]
        dis, div = mutual_channel_loss(key, x, labels, num_classes=6)
        mined = ratio(logits, embeddings, labels, counted)
        mean = lambda values: (counted * values).sum() / counted.sum()  # noqa: E731
        terms = {"mutual_channel": mean(dis - 10 * div), "soft_mining": mined, "family": mean(of_family)}
        loss = mean(softmax) + sum(WEIGHTS[name] * value for name, value in terms.items())
        return loss, (terms, logits, embeddings)

    differentiated = compiled(jax.jit(jax.value_and_grad(by_hand, has_aux=True)), before)
    (loss, (terms, logits, embeddings)), gradients = differentiated(before)
    found = after_a_step(program, batch)
    for name, value in terms.items():
        logged = found.metrics[f"{name}_loss"]
        np.testing.assert_allclose(logged.total / logged.number, value, rtol=1e-6)
    np.testing.assert_allclose(found.metrics["loss"].total, loss, rtol=1e-7)
    expected = jax.tree.map(lambda p, g: p - wide.optimizer.learning_rate * g, before, gradients)
    assert_close(found.parameters, expected, rtol=1e-9, atol=1e-9)
    # What is remembered: of real rows, those left out of the loss too; and how their predictions changed.
    now = np.asarray(jax.nn.softmax(logits))
    for row in range(ROWS):
        place, q = batch["index"][row], np.float64(images.probabilities[batch["index"][row]])
        if not batch["mask"][row]:
            np.testing.assert_array_equal(found.images.probabilities[place], images.probabilities[place])
            continue
        np.testing.assert_allclose(found.images.probabilities[place], now[row], atol=1e-3)
        change = -(q * np.log(now[row])).sum() if q.any() else -1
        np.testing.assert_allclose(found.images.change[place], change, rtol=1e-5)
    others = np.setdiff1d(np.arange(IMAGES), batch["index"])
    np.testing.assert_array_equal(found.images.change[others], images.change[others])
    share = found.metrics["dropped_share"]
    assert share.total / share.number == pytest.approx(1 - counted.sum() / batch["mask"].sum())
    # Garbage in rows that are padded.
    rubbish = {name: values.copy() for name, values in batch.items()}
    rubbish["image"][~batch["mask"]] = 255
    rubbish["label"][~batch["mask"]] = 5
    rubbish["index"][~batch["mask"]] = IMAGES - 1
    again = after_a_step(program, rubbish)
    parts = [(s.parameters, s.metrics, s.counts, s.images) for s in (found, again)]
    assert_close(*parts, rtol=1e-10, atol=1e-10)
    # Microbatches divide once; but of soft mining the mean of their ratios is taken: labels do not give them.
    alone = WEIGHTS | {"soft_mining": 0.0}
    two = Program(changed(wide, {"accumulation": 2}), dataset, jax.devices()[:1], structure=ALL)
    whole, taken_apart = (after_a_step(each, batch, weights=alone) for each in (program, two))
    assert_close(taken_apart.parameters, whole.parameters, rtol=1e-12, atol=1e-12)
    for name in ("mutual_channel_loss", "family_loss"):
        assert_close(taken_apart.metrics[name], whole.metrics[name], rtol=1e-12)
    halves = [ratio(logits[p::2], embeddings[p::2], labels[p::2], counted[p::2]) for p in (0, 1)]
    logged = taken_apart.metrics["soft_mining_loss"]
    np.testing.assert_allclose(logged.total / logged.number, np.mean(halves), rtol=1e-6)
    # In the warm-up nothing is left out, and no prediction is remembered.
    warm = after_a_step(program, batch, dropped=-1.0)
    assert_close(warm.images, images, rtol=0)
    assert warm.metrics["dropped_share"].total == 0
    assert program.traces["step"] == 1


def test_without_weight_and_share_the_step_is_the_baselines(wide, dataset, batch):
    plain = after_a_step(Program(wide, dataset, jax.devices()[:1]), batch)
    program = Program(wide, dataset, jax.devices()[:1], structure=LOSSES)
    found = after_a_step(program, batch, weights=dict.fromkeys(WEIGHTS, 0.0), dropped=0.0)
    metrics = {name: found.metrics[name] for name in plain.metrics}
    assert_close((found.parameters, metrics), (plain.parameters, plain.metrics), rtol=1e-12, atol=1e-12)
    assert_close(found.counts, plain.counts, rtol=1e-12, atol=1e-12)


def test_the_step_is_that_of_the_global_batch(config, dataset, batch):
    one, *others = (
        after_a_step(Program(config, dataset, jax.devices()[:number], structure=ALL), batch)
        for number in (1, 2, 4)
    )
    for many in others:
        assert_close((many.parameters, many.metrics), (one.parameters, one.metrics), rtol=2e-5, atol=2e-6)
        assert_close(many.images, one.images, rtol=1e-3, atol=1e-3)


def test_half_precision_is_raised(config, dataset):
    config = changed(config, {"model.dtype": "bfloat16"})
    program = Program(config, dataset, jax.devices()[:1], structure=ALL)
    arguments = program.abstract_state(), program.abstract_batch(), program.abstract_costs()
    assert "bf16[16,4,4,15]" in str(program.step.trace(*arguments).jaxpr)
    found = jax.eval_shape(program.step, *arguments)
    assert {found.metrics[f"{term.name}_loss"].total.dtype for term in ALL.terms} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(found.parameters)} == {jnp.dtype("float32")}


def test_parameters_begin_as_the_baselines(config, dataset):
    """The heads too, where the part gives as many features as the network does."""
    plain, own = (
        Program(config, dataset, jax.devices()[:1], structure=structure).initial_state(5).parameters
        for structure in (PLAIN, ALL)
    )
    assert set(own) - set(plain) == {"part"}
    for ours, theirs in zip(
        jax.tree.leaves({name: own[name] for name in plain}), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_structures_know_what_they_need_and_how_they_begin():
    assert ALL.taps == ("map", "family_logits", "families")
    assert ALL.warm == Structure("any", part="two_levels")
    assert LOSSES.warm == PLAIN
    assert LOSSES.trains_embedding
    assert not dataclasses.replace(ALL, terms=(MUTUAL, FAMILY)).trains_embedding
