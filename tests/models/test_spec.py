"""What all networks share, and the network in one file that docs/models.md shows."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.configs import base
from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Spec, build, spec_of
from cdml_jax.models.spec import OPTIONS
from cdml_jax.models.weights.files import WeightFile
from cdml_jax.models.weights.loading import fill_weights
from cdml_jax.training.state import split_model

DOCUMENT = Path(__file__).parents[2] / "docs/models.md"


@pytest.fixture(autouse=True)
def example(monkeypatch):
    """The file that docs/models.md shows, in the package."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
    module = {"__name__": "plain"}
    exec(code, module)
    for name, variant in module["NETWORKS"].items():
        monkeypatch.setitem(NETWORKS, name, variant)
    return module


def jaxpr_of(spec):
    """What a step computes of the network, as text."""
    graph, *trees = split_model(nnx.eval_shape(lambda: build("plain32", spec, rngs=nnx.Rngs(0))))

    def run(trees, images):
        model = nnx.merge(graph, *trees)
        return model(images, train=True), nnx.as_pure(nnx.state(model, nnx.BatchStat))

    return str(jax.make_jaxpr(run)(trees, jnp.zeros((2, 8, 8, 3))))


CHANGES = {
    "num_classes": 9,
    "embedding_size": 5,
    "embedding_from": "features",
    "classifier": "cosine",
    "cosine_scale": 9.0,
    "dtype": "bfloat16",
    "style": "tensorflow",
    "freeze_batch_norm": True,
    "remat": True,
    "batch_norm_groups": 2,
}


def test_every_field_reaches_a_network_of_ones_own():
    fields = {field.name for field in dataclasses.fields(Spec)}
    assert fields - CHANGES.keys() == {"platform"}  # forms of layers: tests/models/test_product_norm.py
    plain = Spec(num_classes=3, embedding_size=4)
    cosine = dataclasses.replace(plain, classifier="cosine")
    bases = {"cosine_scale": cosine}  # of a linear classifier it is nothing
    texts = {jaxpr_of(plain)} | {
        jaxpr_of(dataclasses.replace(bases.get(key, plain), **{key: value})) for key, value in CHANGES.items()
    }
    assert len(texts) == 1 + len(CHANGES)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_a_network_does_not_name_is_refused(option, example, monkeypatch):
    monkeypatch.setattr(example["Plain"], "options", tuple(name for name in OPTIONS if name != option))
    with pytest.raises(UserError, match=rf"model\.{option}: the network plain32 has no such option"):
        build("plain32", Spec(num_classes=3, **{option: CHANGES[option]}), rngs=nnx.Rngs(0))


def test_a_network_of_ones_own_can_be_cut():
    model = build("plain32", Spec(num_classes=3), rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)), jnp.float32)
    whole = model(images, train=False)
    halves = model.back(model.front(images, 2, train=False), 2, train=False)
    assert jnp.array_equal(whole.logits, halves.logits)
    assert model.front_names(2) == ("stem", "blocks.0", "blocks.1")
    assert set(model.front_names(4)) == {"stem", "blocks"}


def test_a_network_of_ones_own_takes_weights_of_another_library():
    model = nnx.eval_shape(lambda: build("plain32", Spec(num_classes=3), rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    parts = {"conv1": ("bn1", (32, 3, 7, 7))}
    parts |= {f"layers.{k}.conv": (f"layers.{k}.bn", (32, 32, 3, 3)) for k in range(3)}
    values = {}
    for conv, (norm, shape) in parts.items():
        values[f"{conv}.weight"] = rng.random(shape)
        for last in ("weight", "bias", "running_mean", "running_var"):
            values[f"{norm}.{last}"] = rng.random(32)
    filled, _ = fill_weights(WeightFile(values, {}, "file"), *split_model(model)[1:], network="plain32")
    expected = values["layers.1.conv.weight"].transpose(2, 3, 1, 0).astype(np.float32)
    assert np.array_equal(filled["blocks"][1]["conv"]["kernel"], expected)


def test_a_configuration_gives_the_networks_part_of_its_keys():
    settings = base.get_config().model
    own = ("num_classes", "batch_norm_groups")
    settings.update({key: value for key, value in CHANGES.items() if key not in own})
    settings.batch_norm_devices = 4
    assert spec_of(settings, 9, data=8) == Spec(**CHANGES)
    assert spec_of(settings, 9) == dataclasses.replace(Spec(**CHANGES), batch_norm_groups=1)


@pytest.mark.parametrize(("together", "groups"), [(0, 1), (8, 1), (2, 4), (1, 8)])
def test_batch_norm_is_over_the_groups_that_so_many_devices_make(together, groups):
    settings = base.get_config().model
    settings.batch_norm_devices = together
    assert spec_of(settings, 9, data=8).batch_norm_groups == groups
    assert spec_of(settings, 9).batch_norm_groups == 1


@pytest.mark.parametrize("together", [3, 16])
def test_devices_that_do_not_make_equal_groups_are_refused(together):
    settings = base.get_config().model
    settings.batch_norm_devices = together
    with pytest.raises(
        UserError, match=rf"batch_norm_devices: {together} does not divide the number of devices.*, 8;"
    ):
        spec_of(settings, 9, data=8)


def test_a_network_without_batch_norm_has_no_groups_of_it():
    spec = Spec(num_classes=3, batch_norm_groups=2)
    with pytest.raises(UserError, match="batch_norm_devices: the network vit_base_patch16 has no batch"):
        nnx.eval_shape(lambda: build("vit_base_patch16", spec, rngs=nnx.Rngs(0)))


def test_a_configuration_that_lacks_a_key_is_refused():
    settings = base.get_config().model
    del settings.remat
    with pytest.raises(AttributeError, match="remat"):
        spec_of(settings, 9)
