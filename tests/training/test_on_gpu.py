"""A GPU computes what a CPU computes: steps in every form of the counts, networks, neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_run import epoch_counts

from cdml_jax.configuration.settings import changed
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods import METHODS
from cdml_jax.models import build
from cdml_jax.models.spec import Spec
from cdml_jax.retrieval import nearest
from cdml_jax.runs.loop import begin, fit
from cdml_jax.training.epoch import plan_of_epoch
from cdml_jax.training.program import Program

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU"),
]


@pytest.fixture(autouse=True)
def full_precision():
    """Products of float32 in float32: a GPU would round their factors."""
    with jax.default_matmul_precision("highest"):
        yield


def first_steps(config, dataset, platform, method="cdml", steps=3):
    method = METHODS[method]
    program = Program(config, dataset, devices=jax.devices(platform)[:1], structure=method.structure)
    run = begin(program, 3)
    labels = program.feed("train").labels
    facts = program.facts(run.statistics, run.counts)
    costs, order = plan_of_epoch(method, config, labels, facts, seed=3, epoch=config.warmup_epochs)
    costs, state = program.put_costs(costs), run.state
    for batch in program.feed("train").training(order[:steps], seed=3, epoch=1):
        state = program.step(state, mesh_lib.put_batch(program.mesh, batch), costs)
    return program, state


def assert_close(found, wanted, *, relative=1e-3):
    """Integers are equal, floats to a share of the largest of all: some gradients are 0 but for rounding."""
    found, wanted = (list(map(np.asarray, jax.tree.leaves(tree))) for tree in (found, wanted))
    floats = [np.abs(there).max(initial=0) for there in wanted if np.issubdtype(there.dtype, np.floating)]
    for here, there in zip(found, wanted, strict=True):
        if np.issubdtype(here.dtype, np.floating):
            np.testing.assert_allclose(here, there, rtol=0, atol=relative * max(floats))
        else:
            np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("storage", ["dense", "by_class", "top"])
@pytest.mark.parametrize("counts", ["soft", "hard"])
def test_three_steps_are_those_of_a_cpu(config, dataset, storage, counts):
    changes = {"confusion.storage": storage, "confusion.counts": counts, "confusion.top_k": 3}
    config = changed(config, changes)
    program, state = first_steps(config, dataset, "gpu")
    other, expected = first_steps(config, dataset, "cpu")
    assert_close(state.parameters, expected.parameters)
    assert_close(state.batch_statistics, expected.batch_statistics)
    assert_close(epoch_counts(program, state), epoch_counts(other, expected))


@pytest.mark.parametrize("method", ["confusion_hard", "semi_hard", "pairwise_confusion", "pair_costs"])
def test_the_steps_of_other_methods_are_those_of_a_cpu(config, dataset, method):
    state = first_steps(config, dataset, "gpu", method)[1]
    expected = first_steps(config, dataset, "cpu", method)[1]
    assert_close(state.parameters, expected.parameters)


@pytest.mark.parametrize(
    "name", ["small_resnet", "resnet18", "mobilenet_v2", "efficientnet_lite0", "vgg16_bn"]
)
def test_networks_and_their_gradients_are_those_of_a_cpu(name):
    images = np.float32(np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)))
    graph, state = nnx.split(build(name, Spec(num_classes=7), rngs=nnx.Rngs(0)))

    def loss(state, images):
        outputs = nnx.merge(graph, state)(images, train=True)
        return sum(jnp.sum(jnp.cos(output)) for output in jax.tree.leaves(outputs))

    results = [
        jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(
            *jax.device_put((state, images), jax.devices(platform)[0])
        )
        for platform in ("gpu", "cpu")
    ]
    assert_close(*results, relative=1e-2)


def test_a_run_learns_and_can_be_repeated(config, dataset):
    program = Program(config, dataset, devices=jax.devices("gpu")[:1])
    first, second = (fit(program, METHODS["cdml"], 0) for _ in range(2))
    losses = [epoch["loss"] for epoch in first.history]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, [epoch["loss"] for epoch in second.history], rtol=1e-3)
    assert program.traces["step"] == 1


def test_neighbours_are_those_of_brute_force():
    rows = np.float32(np.random.default_rng(1).normal(size=(3_000, 64)))
    distances = ((rows[:200, None].astype(np.float64) - rows[None]) ** 2).sum(-1)
    distances[np.arange(200), np.arange(200)] = np.inf
    found = nearest(rows, k=10, devices=jax.devices("gpu")[:1])
    np.testing.assert_array_equal(found[:200], np.argsort(distances, 1, kind="stable")[:, :10])
