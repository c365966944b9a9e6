"""The typed settings are `configs/base.py`: its keys, their order, types and values; and JSON and back."""

import ast
import dataclasses
import inspect
import json
import typing

import pytest

import cdml_jax
from cdml_jax.configs import base
from cdml_jax.configuration import keys
from cdml_jax.configuration.load import load, shipped_configs
from cdml_jax.configuration.settings import Settings, changed, defaults, from_plain, to_plain
from cdml_jax.data.images.transforms import Transform
from cdml_jax.errors import UserError


def written_keys():
    """Dotted keys in the order in which configs/base.py writes them, which a ConfigDict does not keep."""

    def found(node, prefix):
        for key, value in zip(node.keys, node.values):
            name = f"{prefix}{key.value}"
            yield from found(value, f"{name}.") if isinstance(value, ast.Dict) else [name]

    tree = ast.parse(inspect.getsource(base.get_config))
    return list(found(next(node for node in ast.walk(tree) if isinstance(node, ast.Dict)), ""))


def test_keys_and_values_are_those_of_the_base_in_its_order():
    settings = keys.flat(dataclasses.asdict(defaults()))
    assert list(settings) == written_keys()
    assert settings == keys.flat(base.get_config().to_dict())


def test_every_field_has_the_type_that_the_keys_are_judged_by():
    def compare(part, group):
        hints = typing.get_type_hints(part)
        for field in dataclasses.fields(part):
            value, kind = group[field.name], hints[field.name]
            if dataclasses.is_dataclass(kind):
                compare(kind, value)
            else:
                assert (typing.get_origin(kind) or kind) is type(value), field.name

    compare(Settings, keys.defaults())


def test_views_begin_with_the_same_values_outside_of_settings():
    assert Transform() == defaults().image


@pytest.mark.parametrize("name", shipped_configs())
def test_settings_survive_json(name):
    settings = load(name).settings
    assert from_plain(json.loads(json.dumps(to_plain(settings)))) == settings


def test_a_change_leaves_the_settings_that_it_began_with():
    before = defaults()
    after = changed(before, {"epochs": 20, "optimizer.learning_rate": 1, "image.scale": [0.5, 1]})
    assert (after.epochs, after.optimizer.learning_rate, after.image.scale) == (20, 1.0, (0.5, 1))
    assert type(after.optimizer.learning_rate) is float
    assert before == defaults()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"epohcs": 3}, ("epohcs: there is no such key", "did you mean epochs?")),
        ({"optimizer.xyz": 3}, ("optimizer.xyz", "there are", "learning_rate")),
        ({"epochs.more": 3}, ("epochs.more: there is no such key", "epochs is a value")),
        ({"optimizer": {}}, ("optimizer: is a group of keys", "learning_rate")),
        ({"epochs": 1.5}, ("epochs: 1.5 is not an int",)),
        ({"epochs": True}, ("epochs: True is not an int",)),
        ({"optimizer.learning_rate": True}, ("optimizer.learning_rate: True is not a float",)),
        ({"optimizer.learning_rate": "1"}, ("optimizer.learning_rate: '1' is not a float",)),
        ({"image.flip": 1}, ("image.flip: 1 is not a bool",)),
        ({"image.scale": 0.5}, ("image.scale: 0.5 is not a tuple",)),
        ({"source": 3}, ("source: 3 is not a str",)),
    ],
)
def test_a_key_or_a_type_that_is_wrong_is_named(change, parts):
    with pytest.raises(UserError) as refused:
        changed(defaults(), change)
    assert all(part in str(refused.value) for part in parts)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda v: v.pop("batch_size"), ("batch_size", "lacks this key")),
        (lambda v: v["mesh"].pop("data"), ("mesh.data", "lacks this key")),
        (lambda v: v["mesh"].update({"modle": 1}), ("mesh.modle", "did you mean mesh.model?")),
        (lambda v: v.update({"mesh": 3}), ("mesh: 3 is not a group of keys",)),
    ],
)
def test_stored_settings_are_read_strictly(damage, parts):
    values = to_plain(defaults())
    damage(values)
    with pytest.raises(UserError) as refused:
        from_plain(values)
    assert all(part in str(refused.value) for part in parts)


def test_stored_settings_that_are_none_are_refused():
    with pytest.raises(UserError, match=r"\[3\] is not a group of keys"):
        from_plain([3])


def test_settings_from_python():
    found = cdml_jax.settings("own_images", epochs=20, **{"optimizer.learning_rate": 0.01})
    assert found == changed(load("own_images").settings, {"epochs": 20, "optimizer.learning_rate": 0.01})
    with pytest.raises(UserError, match=r"epohcs: there is no such key; did you mean epochs\?"):
        cdml_jax.settings("own_images", epohcs=20)
    with pytest.raises(UserError, match="no file own_imags; shipped ones are"):
        cdml_jax.settings("own_imags")
