"""A configuration by name or file: executed once, overridden by text, answered with its file's name."""

import dataclasses
import sys

import pytest

from cdml_jax.configuration import keys
from cdml_jax.configuration.load import load, load_arguments, shipped_configs
from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.errors import UserError

COUNTING = """
from pathlib import Path
from cdml_jax.configs import base
log = Path(__file__).with_suffix(".log")
with log.open("a") as file:
    file.write("executed ")
def get_config():
    with log.open("a") as file:
        file.write("called ")
    return base.get_config()
"""


@pytest.fixture
def mine(tmp_path):
    """Writes a configuration of one's own."""

    def write(text, name="mine.py"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


def base_with(*lines):
    body = "\n".join(f"    {line}" for line in ("c = base.get_config()", *lines, "return c"))
    return f"from cdml_jax.configs import base\ndef get_config():\n{body}\n"


def test_a_file_is_executed_once_whatever_is_overridden(mine):
    file = mine(COUNTING)
    arguments = [f"--config={file}", "--config.epochs=3", "--config.optimizer.learning_rate=1"]
    loaded = load_arguments(arguments)
    assert file.with_suffix(".log").read_text() == "executed called "
    assert loaded.settings == changed(defaults(), {"epochs": 3, "optimizer.learning_rate": 1.0})
    assert loaded.name == "mine"
    assert dict(loaded.methods) == {}


def test_a_file_that_was_edited_is_read_anew_and_leaves_nothing_in_its_folder(mine, tmp_path):
    for epochs in (3, 4, 5):  # of one length, within a second: no file that was compiled before may serve
        file = mine(base_with(f"c.epochs = {epochs}"))
        assert load(str(file)).settings.epochs == epochs
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_nothing_of_the_process_is_changed_but_for_the_module(mine):
    before = list(sys.argv), set(sys.modules)
    load(str(mine(base_with())), {"epochs": "3"})
    assert list(sys.argv) == before[0]
    assert all(name.startswith("cdml_jax_config_") for name in set(sys.modules) - before[1])


def test_methods_of_a_file_come_with_its_settings(mine):
    text = (
        "from __future__ import annotations\nimport dataclasses\n"
        "@dataclasses.dataclass\nclass Own:\n  weight: float = 1.0\n"
        "def get_methods():\n  return {'own': Own()}\n"
    )
    loaded = load(str(mine(text + base_with())))
    assert loaded.methods["own"].weight == 1.0


@pytest.mark.parametrize("given", ["[1]", "{1: 2}", "None"])
def test_methods_that_are_no_dictionary_by_names_are_refused(mine, given):
    file = mine(base_with() + f"def get_methods(): return {given}\n")
    with pytest.raises(UserError, match=r"mine\.py: get_methods\(\) must give a dictionary"):
        load(str(file))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("def get_config(:\n", ("SyntaxError", "line 1")),
        ("import no_such_module\n", ("ModuleNotFoundError", "no_such_module", "line 1")),
        ("\n\ndef get_config():\n  return 1 / 0\n", ("ZeroDivisionError", "line 4")),
        ("raise SystemExit('bye')\n", ("SystemExit: bye",)),
        ("x = 1\n", ("has no get_config()", "base.get_config()")),
        ("def get_config(): return {}\n", ("get_config() gave dict", "ConfigDict")),
        (base_with("c.batch_size = 'many'"), ("batch_size", "line 4")),
        (base_with("c.batch_sizes = 3"), ("batch_sizes", "did you mean batch_size?")),
        (base_with("del c.batch_size"), ("batch_size", "lacks this key")),
        (base_with("c.batch_size = True"), ("batch_size: True is not an int",)),
        (base_with("c.optimizer = 3"), ("optimizer",)),
        (base_with("c.image.scale = (0.5, 0.7, 1.0)"), ("image.scale must be two numbers",)),
        (base_with("c.optimizer.freeze = ('stem', 3)"), ("optimizer.freeze: 3 is not a name",)),
    ],
)
def test_what_is_wrong_with_a_file_is_named_in_one_line(mine, text, parts):
    with pytest.raises(UserError) as refused:
        load(str(mine(text)))
    assert all(part in str(refused.value) for part in parts)
    assert "\n" not in str(refused.value)


def test_a_file_may_raise_what_a_person_should_read(mine):
    file = mine("from cdml_jax.errors import UserError\ndef get_config(): raise UserError('set X')\n")
    with pytest.raises(UserError, match=r"^set X$"):
        load(str(file))


def test_a_whole_number_serves_where_a_float_is_wanted(mine):
    settings = load(str(mine(base_with("c.objective.margin = 1", "c.checkpoint.every_seconds = 5")))).settings
    assert (settings.objective.margin, settings.checkpoint.every_seconds) == (1.0, 5.0)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("epochs", "20", 20),
        ("epochs", "0x10", 16),
        ("seed", "007", 7),
        ("optimizer.learning_rate", "1", 1.0),
        ("optimizer.learning_rate", "5e-1", 0.5),
        ("image.flip", "false", False),
        ("image.flip", "True", True),
        ("image.flip", "0", False),
        ("source", "folder:a,b", "folder:a,b"),
        ("source", "", ""),
        ("model.frozen", "17", "17"),
        ("image.scale", "(0.5, 0.9)", (0.5, 0.9)),
        ("image.scale", "0.5,1", (0.5, 1)),
        ("image.scale", "[0.5, 0.9]", (0.5, 0.9)),
        ("reproduce.methods", "('baseline','cdml')", ("baseline", "cdml")),
        ("reproduce.methods", "baseline, cdml", ("baseline", "cdml")),
        ("reproduce.methods", "cdml", ("cdml",)),
        ("optimizer.freeze", "stem,blocks.0", ("stem", "blocks.0")),
        ("optimizer.freeze", "'stem'", ("stem",)),
        ("optimizer.freeze", "", ()),
    ],
)
def test_text_becomes_a_value_of_its_keys_type(key, text, value):
    found = keys.flat(keys.overridden(keys.defaults(), {key: text}))[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [
        ("epochs", "many", "an int"),
        ("epochs", "1.5", "an int"),
        ("epochs", "", "an int"),
        ("epochs", "9" * 5000, "an int"),
        ("image.flip", "maybe", "a bool"),
        ("optimizer.learning_rate", "fast", "a float"),
        ("image.scale", "a,b", "a tuple"),
        ("image.scale", "(0.5", "a tuple"),
        ("reproduce.methods", "('cdml'", "a tuple"),
        ("optimizer.freeze", "(" * 5000, "a tuple"),
    ],
)
def test_text_of_another_type_is_refused_by_key_and_value(key, text, kind):
    with pytest.raises(UserError) as refused:
        keys.overridden(keys.defaults(), {key: text})
    assert str(refused.value) == f"--config.{key}: {text!r} is not {kind}"


@pytest.mark.parametrize("name", shipped_configs())
def test_every_value_survives_as_a_flag(name):
    settings = load(name).settings
    flags = {key: keys.text_of(value) for key, value in keys.flat(dataclasses.asdict(settings)).items()}
    assert load(name, flags).settings == settings


def test_the_last_of_a_key_counts():
    arguments = ["--config.epochs=3", "--config=demo", "--config.epochs=4", "--config.seed=1"]
    assert load_arguments(arguments).settings.epochs == 4


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ("one --config=NAME is needed", "demo")),
        (["--config="], ("one --config=NAME is needed",)),
        (["--config=demo", "--config=base"], ("one --config=NAME is needed",)),
        (["--config=no_such"], ("no file no_such", "demo")),
        (["--config=demo", "--batch=3"], ("'--batch=3'", "--config.KEY=VALUE")),
        (["--config=demo", "--config.epochs", "3"], ("'--config.epochs'",)),
        (["--config=demo", "--config.epohcs=3"], ("did you mean --config.epochs?",)),
        (["--config=demo", "--config.objective.margn=3"], ("did you mean --config.objective.margin?",)),
        (["--config=demo", "--config.data=x"], ("--config.data: is a group of keys", "data_dir")),
    ],
)
def test_arguments_that_are_wrong_are_answered(arguments, parts):
    with pytest.raises(UserError) as refused:
        load_arguments(arguments)
    assert all(part in str(refused.value) for part in parts)
