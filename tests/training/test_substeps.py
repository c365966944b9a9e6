"""Several updates of one batch: in order, on the views and the logits that each names."""
# ruff: noqa: F811 (fixtures)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_other_systems import ROWS, after_a_step, assert_close, batch, config, make_costs  # noqa: F401

from cdml_jax.configuration.settings import changed
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods import METHODS
from cdml_jax.methods.structure import Structure, Substep
from cdml_jax.methods.views import VIEWS
from cdml_jax.models import NETWORKS, Network, Spec, Variant, build
from cdml_jax.models.heads import Heads
from cdml_jax.models.parts import PARTS, Part
from cdml_jax.models.pixels import normalize_images
from cdml_jax.training.program import Program
from cdml_jax.training.state import split_model
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


class Mean(Part):
    """The mean of the map, and a classifier of its own on it."""

    def __init__(self, network, families, spec, *, rngs):
        super().__init__(network, families, spec, rngs=rngs)
        self.features = network.map_channels
        self.classifier = nnx.Linear(self.features, spec.num_classes, param_dtype=self.dtype, rngs=rngs)

    def __call__(self, *maps, train):
        mean = maps[0].mean((1, 2))
        return mean, {"own_logits": self.classifier(mean)}


@pytest.fixture(autouse=True)
def stages(monkeypatch):
    monkeypatch.setitem(NETWORKS, "stages", Variant(Stages))
    monkeypatch.setitem(PARTS, "mean", Mean)


def test_updates_of_microbatches_follow_one_another_as_by_hand(config, dataset, batch, float64):
    wide = changed(config, {"model.dtype": "float64", "accumulation": 2})
    substeps = (Substep("jigsaw4", "own_logits"), Substep(weight=2.0))
    structure = Structure("two", part="mean", substeps=substeps)
    program = Program(wide, dataset, jax.devices()[:1], structure=structure)
    state, real = program.initial_state(3), batch["mask"]
    parameters = jax.tree.map(np.asarray, state.parameters)
    class_weights = make_costs(structure).class_weights[batch["label"]]
    mixed = np.asarray(VIEWS["jigsaw4"](jnp.asarray(batch["image"]), view_key(state, 0)))
    assert (mixed != batch["image"]).any()

    @jax.jit
    @jax.value_and_grad
    def loss(parameters, images, own):
        network = nnx.merge(program.graph, parameters, {})
        x = network.front(normalize_images(jnp.asarray(images), jnp.float64), 1, train=True).mean((1, 2))
        logits = jnp.where(own, network.part.classifier(x), network.heads.classifier(x))
        losses = -jax.nn.log_softmax(logits)[np.arange(len(images)), batch["label"]]
        return (real * class_weights * losses).sum() / real.sum()

    for place, (weight, images) in enumerate(((1, mixed), (2, batch["image"]))):
        value, gradients = loss(parameters, images, weight == 1)
        rate = weight * float(program.schedule(place))
        parameters = jax.tree.map(lambda p, g, rate=rate: p - rate * g, parameters, gradients)
    assert program.schedule(0) > program.schedule(1) > program.schedule(2) > 0
    found = after_a_step(program, batch)
    assert_close(found.parameters, parameters, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.metrics["loss"].total, 2 * value, rtol=1e-7)
    assert (int(found.step), program.updates) == (1, 2)


@pytest.mark.parametrize("part", ["bilinear", "compact_bilinear", "pmg"])
def test_a_part_begins_as_the_baseline_and_sees_the_global_batch(part, batch, float64):
    spec = Spec(num_classes=6, embedding_size=4, dtype="float64")
    plain, network = (build("stages", spec, rngs=nnx.Rngs(5), part=each) for each in ("", part))
    for name in ("stem", "blocks"):
        assert_close(*(nnx.as_pure(nnx.state(getattr(n, name))) for n in (network, plain)), rtol=0)
    graph, *state = split_model(network)
    key, labels = jax.random.key(3), batch["label"]

    def loss(parameters, images):
        model = nnx.merge(graph, parameters, state[1])
        x = model.front(normalize_images(VIEWS["jigsaw8"](images, key), jnp.float64), 0, train=True)
        (logits, _), extras = model.observe(x, 0, train=True)
        each = [logits, *(extras[name] for name in sorted(extras) if name.endswith("_logits"))]
        rows = np.arange(ROWS)
        return sum(-jax.nn.log_softmax(one)[rows, labels].mean() for one in each)

    found = []
    for number in (1, 2, 4):
        mesh = mesh_lib.make_mesh(ROWS, devices=jax.devices()[:number])
        parameters = mesh_lib.put_replicated(mesh, state[0])
        images = mesh_lib.put_batch(mesh, {"image": batch["image"]})["image"]
        quick = jax.jit(jax.value_and_grad(loss), compiler_options={"xla_backend_optimization_level": 0})
        found.append(quick(parameters, images))
    for many in found[1:]:
        assert_close(many, found[0], rtol=1e-6, atol=1e-9)


def test_all_classifiers_are_asked_when_the_network_is_used(batch):
    network = build("stages", Spec(num_classes=6), rngs=nnx.Rngs(5), part="pmg")
    images = normalize_images(jnp.asarray(batch["image"]))
    x, maps = network.front(images, 0, train=False), []
    for block in network.blocks:
        x = block(x, train=False)
        maps.append(x)
    features, said = network.part(*maps, train=False)
    expected = network.heads(features).logits + sum(said[f"stage{place}_logits"] for place in (1, 2, 3))
    np.testing.assert_allclose(network(images, train=False).logits, expected, rtol=1e-5, atol=1e-5)
    assert METHODS["cdml_pmg"].structure.warm == METHODS["pmg"].structure != METHODS["bilinear"].structure
