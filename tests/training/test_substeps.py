"""Several updates of one batch: in order, on the views and the logits that each names."""
# ruff: noqa: F811 (fixtures)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_other_systems import after_a_step, assert_close, batch, config, make_costs  # noqa: F401

from cdml_jax.configuration.settings import changed
from cdml_jax.methods import METHODS
from cdml_jax.methods.structure import PLAIN, Structure, Substep
from cdml_jax.methods.views import VIEWS
from cdml_jax.models import NETWORKS, Network, Variant
from cdml_jax.models.heads import Heads
from cdml_jax.models.pixels import normalize_images
from cdml_jax.training.program import Program
from cdml_jax.training.step import view_key


class Half(nnx.Module):
    """A convolution of stride 2 with a ReLU."""

    def __init__(self, inputs, outputs, spec, *, rngs):
        self.conv = nnx.Conv(inputs, outputs, (3, 3), strides=2, param_dtype=spec.param_dtype, rngs=rngs)

    def __call__(self, x, *, train):
        return nnx.relu(self.conv(x))


class Stages(Network):
    """Maps of 8, 4, 2 and 1 pixels a side, of images of 16."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec)
        self.stem = nnx.Conv(3, 6, (3, 3), strides=2, param_dtype=spec.param_dtype, rngs=rngs)
        sizes = ((6, 6), (6, 8), (8, 12))
        self.blocks = nnx.List([Half(*size, spec, rngs=rngs) for size in sizes])
        self.heads = Heads(12, spec, rngs=rngs)

    def enter(self, images, *, train):
        return nnx.relu(self.stem(images))

    def pool(self, x, *, train):
        return x.mean((1, 2))


@pytest.fixture(autouse=True)
def stages(monkeypatch):
    monkeypatch.setitem(NETWORKS, "stages", Variant(Stages))


def test_updates_follow_one_another_whatever_microbatches(config, dataset, batch, float64):
    wide = changed(config, {"model.dtype": "float64"})
    structure = Structure("two", substeps=(Substep("jigsaw4"), Substep(weight=2.0)))
    program = Program(wide, dataset, jax.devices()[:1], structure=structure)
    state, real = program.initial_state(3), batch["mask"]
    parameters = jax.tree.map(np.asarray, state.parameters)
    class_weights = make_costs(structure).class_weights[batch["label"]]
    mixed = np.asarray(VIEWS["jigsaw4"](jnp.asarray(batch["image"]), view_key(state, 0)))
    assert (mixed != batch["image"]).any()

    def loss(parameters, images):
        network = nnx.merge(program.graph, parameters, {})
        logits, _ = network(normalize_images(jnp.asarray(images), jnp.float64), train=True)
        losses = -jax.nn.log_softmax(logits)[np.arange(len(images)), batch["label"]]
        return (real * class_weights * losses).sum() / real.sum()

    for place, (weight, images) in enumerate(((1, mixed), (2, batch["image"]))):
        value, gradients = jax.jit(jax.value_and_grad(loss))(parameters, images)
        rate = weight * float(program.schedule(place))
        parameters = jax.tree.map(lambda p, g, rate=rate: p - rate * g, parameters, gradients)
    assert program.schedule(0) > program.schedule(1) > program.schedule(2) > 0
    found = after_a_step(program, batch)
    assert_close(found.parameters, parameters, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.metrics["loss"].total, 2 * value, rtol=1e-7)
    assert (int(found.step), program.updates) == (1, 2)
    apart = Program(changed(wide, {"accumulation": 2}), dataset, jax.devices()[:1], structure=structure)
    assert_close(after_a_step(apart, batch).parameters, found.parameters, rtol=1e-12, atol=1e-12)


def test_a_stage_trains_what_is_below_it_alone(config, dataset, batch):
    config = changed(config, {"model.name": "stages"})
    structure = Structure("first", part="pmg", substeps=(Substep("jigsaw8", "stage1_logits"),))
    program = Program(config, dataset, jax.devices()[:1], structure=structure)
    before = jax.tree.map(np.asarray, program.initial_state(3).parameters)
    after = after_a_step(program, batch).parameters
    moved = {
        jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")[0]
        for path, same in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
        )
        if not same
    }
    trunk = {"stem", "blocks.0.conv"}
    heads = {"first.0.conv", "first.0.norm", "second.0.conv", "second.0.norm", "classifiers.0"}
    heads |= {f"dense.0.{name}" for name in ("before", "linear", "after")}
    assert moved == trunk | {f"part.{name}" for name in heads}


def test_four_updates_begin_as_the_baseline_and_are_those_of_the_global_batch(config, dataset, batch):
    config = changed(config, {"model.name": "stages"})
    plain = Program(config, dataset, jax.devices()[:1], structure=PLAIN)
    programs = [
        Program(config, dataset, jax.devices()[:number], structure=METHODS["pmg"].structure)
        for number in (1, 2, 4)
    ]
    begun, theirs = (program.initial_state(5).parameters for program in (programs[0], plain))
    for name in set(theirs) - {"heads"}:
        assert_close(begun[name], theirs[name], rtol=0)
    one, *others = (after_a_step(program, batch) for program in programs)
    for many in others:
        assert_close(many.parameters, one.parameters, rtol=1e-3, atol=1e-4)
    assert programs[0].traces["step"] == 1
    assert float(programs[0].schedule(4 * programs[0].total_steps)) == pytest.approx(0, abs=1e-9)
    assert METHODS["cdml_pmg"].structure.warm == METHODS["pmg"].structure
    # All four heads are asked when the network is used.
    network = programs[0].model(one)
    images = normalize_images(jnp.asarray(batch["image"]))
    outputs, said = network.observe(network.front(images, 0, train=False), 0, train=False)
    stages = sum(said[f"stage{place}_logits"] for place in (1, 2, 3))
    x = network.front(images, 3, train=False)
    alone = network.heads(network.part(*_maps(network, images), train=False)[0])
    assert x.shape[1] == 1
    np.testing.assert_allclose(outputs.logits, alone.logits + stages, rtol=1e-5, atol=1e-5)


def _maps(network, images):
    return [network.front(images, blocks, train=False) for blocks in (1, 2, 3)]
