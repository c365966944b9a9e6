"""`model.batch_norm_devices`: groups of devices share batch statistics, and nothing else changes."""

import jax
import numpy as np
import pytest
from tiny_run import Tiny

from cdml_jax.configuration.settings import changed
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.distributed.collectives import collectives
from cdml_jax.methods import METHODS
from cdml_jax.models import NETWORKS, Variant
from cdml_jax.models.layers import batch_norm
from cdml_jax.training.epoch import plan_of_epoch, statistics_of
from cdml_jax.training.program import Program

FEATURES = 16


class TinyOfGroups(Tiny):
    """With the batch norm of the networks in place of Flax's."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec, rngs=rngs)
        self.norm = batch_norm(FEATURES, epsilon=1e-3, spec=spec, rngs=rngs)


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setitem(NETWORKS, "tiny", Variant(TinyOfGroups))


def program_of(config, dataset, devices, together):
    config = changed(config, {"model.batch_norm_devices": together})
    return Program(config, dataset, devices=jax.devices()[:devices])


def lowered(program):
    return program.step.lower(program.abstract_state(), program.abstract_batch(), program.abstract_costs())


def stepped(config, dataset, devices, together):
    """What crosses devices in a step, and parameters and statistics after two."""
    program = program_of(config, dataset, devices, together)
    feed, confusion = program.feed("train"), program.storage.nothing()
    facts = program.facts(statistics_of(confusion, program.config.confusion), confusion)
    costs, order = plan_of_epoch(METHODS["cdml"], program.config, feed.labels, facts, seed=0, epoch=2)
    state, costs = program.initial_state(3), program.put_costs(costs)
    step = lowered(program).compile()
    batches = feed.training(order, seed=0, epoch=2)
    for _ in range(2):
        state = step(state, mesh_lib.put_batch(program.mesh, next(batches)), costs)
    batches.close()
    return collectives(step.as_text()), jax.device_get((state.parameters, state.batch_statistics))


def test_groups_of_devices_share_statistics_and_no_others(config, dataset):
    """Four groups of two devices train as four devices alone do: what counts is who shares."""
    config = changed(config, {"batch_size": 32, "accumulation": 2})
    crossing, pairs = stepped(config, dataset, 8, 2)
    apart, four = stepped(config, dataset, 4, 1)
    for ours, theirs in zip(jax.tree.leaves(pairs), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

    # A batch norm's sums, forward and backward, cross between neighbours alone, in both microbatches.
    inside = [one for one in crossing if one.kind == "all-reduce" and one.devices == 2]
    assert len(inside) == 2
    assert all(one.span == 2 and one.times == 2 and one.bytes == 2 * 4 * FEATURES for one in inside)
    # Across the groups: the running statistics, and gradients of scale and bias that the groups have summed.
    across = [one for one in crossing if one.devices == 4]
    assert [(one.kind, one.span, one.bytes) for one in across] == [("all-reduce", 7, 4 * 4 * FEATURES)]
    # A device with statistics of its own waits for none: all is in the sums that it sends anyway.
    assert all(one.devices == 4 and one.shapes.count(f"f32[1,{FEATURES}]") == 0 for one in apart)
    assert sum(one.kind == "all-reduce" and one.times == 2 for one in apart) == 1
    # No row changes device: the gathers are those of labels and embeddings.
    gathers = sorted(one.bytes for one in crossing if one.kind == "all-gather")
    assert gathers == [4 * 32, 4 * 16 * 8]


def test_all_devices_are_the_whole_batch(config, dataset):
    """The default's program to the letter."""
    texts = {together: lowered(program_of(config, dataset, 8, together)).as_text() for together in (0, 8, 4)}
    assert texts[8] == texts[0]
    assert texts[4] != texts[0]
