"""`cdml_jax.train` refuses in one line what the command line refuses, and a folder of another method."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_run import config, dataset, tiny_networks  # noqa: F401

import cdml_jax
from cdml_jax.cli import main
from cdml_jax.configuration.settings import changed
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.errors import UserError
from cdml_jax.methods import Method


@pytest.fixture
def short(config):  # noqa: F811
    before = jax.config.jax_compilation_cache_dir
    yield changed(config, {"epochs": 1, "warmup_epochs": 0, "compilation_cache": ""})
    jax.config.update("jax_compilation_cache_dir", before)


def with_splits(dataset, **splits):  # noqa: F811
    return dataclasses.replace(dataset, splits={**dataset.splits, **splits})


def relabelled(source, labels):
    names = [source.name(i) for i in range(len(source))]
    return ArraySource([source.image(i) for i in range(len(source))], labels, names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: with_splits(d, validation=d.splits["train"]), "image in two splits"),
        (
            lambda d: with_splits(d, validation=relabelled(d.splits["validation"], np.full(54, 6))),
            "label out of range 0 to 5",
        ),
        (
            lambda d: with_splits(d, train=relabelled(d.splits["train"], np.full(100, 2))),
            "without a training image",
        ),
        (lambda d: dataclasses.replace(d, classes=Classes(tuple("aacdef"))), "class name given twice"),
        (lambda d: dataclasses.replace(d, splits={"test": d.splits["test"]}), "colours has no split train"),
        (
            lambda d: with_splits(d, validation=ArraySource(np.zeros((0, 16, 16, 3), np.uint8), [])),
            "without an image",
        ),
        (lambda d: d.splits["train"], "dataset must be Dataset, not ArraySource"),
    ],
)
def test_a_data_set_is_checked_as_the_command_line_checks_its(short, dataset, change, message):  # noqa: F811
    with pytest.raises(UserError, match=message):
        cdml_jax.train(short, change(dataset), "baseline", quiet=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": 3}, "method must be a method's name or a Method, not int"),
        ({"method": "cdlm"}, "did you mean cdml?"),
        ({"seed": 1.5}, "seed must be int, not float"),
        ({"settings": "own_images"}, "settings must be Settings, not str"),
    ],
)
def test_arguments_of_other_types_are_named(short, dataset, arguments, message):  # noqa: F811
    with pytest.raises(UserError, match=message):
        cdml_jax.train(**{"settings": short, "dataset": dataset} | arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ArraySource(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], names=["a", "a"]),
            "'a' is given twice",
        ),
        (lambda: Dataset("x", ["a", "b"], {}), "classes must be Classes"),
        (lambda: Dataset("x", Classes(("a", "b")), {"valid": None}), "splits: 'valid' is unknown"),
    ],
)
def test_parts_of_a_data_set_are_checked_where_they_are_made(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_folder_belongs_to_one_method(short, dataset, tmp_path, capsys):  # noqa: F811
    """Whatever it is called."""
    mine = Method("Mine", class_weights=lambda facts: np.ones(facts.sizes.size))
    cdml_jax.train(short, dataset, mine, workdir=tmp_path, quiet=True)
    cdml_jax.train(short, dataset, mine, workdir=tmp_path, quiet=True)
    assert capsys.readouterr().out == ""
    other = Method("Mine", class_weights=lambda facts: np.sqrt(facts.sizes))
    with pytest.raises(UserError, match="another method, or of another version of its code"):
        cdml_jax.train(short, dataset, other, workdir=tmp_path)
    assert main.main(["evaluate", f"--workdir={tmp_path}"]) == 2
    assert "was given to cdml_jax.train by a Python program" in capsys.readouterr().err


def test_what_is_left_open_is_chosen_once(short, dataset, tmp_path):  # noqa: F811
    left = {"batch_size": -1, "evaluate_every": -1, "warmup_epochs": -1, "model.frozen": "auto"}
    run = cdml_jax.train(changed(short, left), dataset, "baseline", workdir=tmp_path, quiet=True)
    assert run.config.batch_size == 32
    assert (run.config.evaluate_every, run.config.warmup_epochs, run.config.model.frozen) == (1, 0, "")
    # More epochs, and the rest as it was: the batch is not chosen again.
    more = changed(short, left | {"epochs": 2})
    assert cdml_jax.train(more, dataset, "baseline", workdir=tmp_path, quiet=True).config.batch_size == 32
