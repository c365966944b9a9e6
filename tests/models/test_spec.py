"""What all networks share, and a network of one's own in one file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.configs import base
from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Network, Spec, Variant, build, spec_of
from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import ConvNorm, mean_pool
from cdml_jax.models.pixels import scale_input
from cdml_jax.models.spec import OPTIONS, STYLES
from cdml_jax.models.weights.conversion import Table
from cdml_jax.models.weights.files import WeightFile
from cdml_jax.models.weights.loading import fill_weights
from cdml_jax.training.state import split_model


# All that a file of a network holds: its class, its tables of names, its NETWORKS.
class Plain(Network):
    """A stem, one block, mean pooling, two heads; `width` features."""

    options = OPTIONS

    def __init__(self, spec, *, width, rngs):
        super().__init__(spec)
        self.convention = STYLES[spec.style or "torchvision"]
        common = {"spec": spec, "convention": self.convention, "rngs": rngs}
        self.stem = ConvNorm(3, width, 3, stride=2, **common)
        self.blocks = nnx.List([ConvNorm(width, width, 3, **common)])
        self.heads = Heads(width, spec, rngs=rngs)

    def enter(self, images, *, train):
        return self.stem(scale_input(images, self.convention).astype(self.dtype), train=train)

    def pool(self, x, *, train):
        return mean_pool(x)


def tables():
    names = {"stem.conv": "conv1", "stem.norm": "bn1", "blocks.0.conv": "conv2", "blocks.0.norm": "bn2"}
    return {"elsewhere": Table(names, classifier="fc")}


PLAIN = {"plain4": Variant(Plain, {"width": 4}, tables), "plain6": Variant(Plain, {"width": 6}, tables)}


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    for name, variant in PLAIN.items():
        monkeypatch.setitem(NETWORKS, name, variant)


def jaxpr_of(spec):
    """What a step computes of the network, as text."""
    graph, *trees = split_model(nnx.eval_shape(lambda: build("plain4", spec, rngs=nnx.Rngs(0))))

    def run(trees, images):
        model = nnx.merge(graph, *trees)
        return model(images, train=True), nnx.as_pure(nnx.state(model, nnx.BatchStat))

    return str(jax.make_jaxpr(run)(trees, jnp.zeros((2, 8, 8, 3))))


CHANGES = {
    "num_classes": 9,
    "embedding_size": 5,
    "embedding_from": "features",
    "dtype": "bfloat16",
    "style": "tensorflow",
    "freeze_batch_norm": True,
    "remat": True,
}


def test_every_field_reaches_a_network_of_ones_own():
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(Spec)}
    plain = Spec(num_classes=3, embedding_size=4)
    texts = {jaxpr_of(plain)} | {jaxpr_of(dataclasses.replace(plain, **{k: v})) for k, v in CHANGES.items()}
    assert len(texts) == 1 + len(CHANGES)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_a_network_does_not_name_is_refused(option, monkeypatch):
    monkeypatch.setattr(Plain, "options", ())
    with pytest.raises(UserError, match=rf"model\.{option}: the network plain6 has no such option"):
        build("plain6", Spec(num_classes=3, **{option: CHANGES[option]}), rngs=nnx.Rngs(0))


def test_a_network_of_ones_own_can_be_cut():
    model = build("plain6", Spec(num_classes=3), rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)), jnp.float32)
    whole = model(images, train=False)
    halves = model.back(model.front(images, 1, train=False), 1, train=False)
    assert jnp.array_equal(whole.logits, halves.logits)
    assert model.front_names(1) == ("stem", "blocks.0")
    assert set(model.front_names(2)) == {"stem", "blocks"}


def test_a_network_of_ones_own_takes_weights_of_another_library():
    parameters, statistics = split_model(build("plain6", Spec(num_classes=3), rngs=nnx.Rngs(0)))[1:]
    rng = np.random.default_rng(0)
    values = {f"conv{k}.weight": rng.random((6, 3 if k == 1 else 6, 3, 3)) for k in (1, 2)}
    for k in (1, 2):
        values |= {
            f"bn{k}.{last}": rng.random(6) for last in ("weight", "bias", "running_mean", "running_var")
        }
    filled, _ = fill_weights(WeightFile(values, {}, "file"), parameters, statistics, network="plain6")
    expected = values["conv2.weight"].transpose(2, 3, 1, 0).astype(np.float32)
    assert np.array_equal(filled["blocks"][0]["conv"]["kernel"], expected)


def test_a_configuration_gives_the_networks_part_of_its_keys():
    settings = base.get_config().model
    settings.update({key: value for key, value in CHANGES.items() if key != "num_classes"})
    assert spec_of(settings, 9) == Spec(**CHANGES)


def test_a_configuration_that_lacks_a_key_is_refused():
    settings = base.get_config().model
    del settings.remat
    with pytest.raises(AttributeError, match="remat"):
        spec_of(settings, 9)
