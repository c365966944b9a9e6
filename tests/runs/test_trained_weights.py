"""Weights for use against the state that was trained: whole, averaged, damaged, of another network."""

import jax
import numpy as np
import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS, Method
from cdml_jax.methods.structure import Structure
from cdml_jax.methods.terms import PairwiseConfusion
from cdml_jax.runs.loop import fit
from cdml_jax.runs.trained_weights import restore_for_evaluation, restore_weights
from cdml_jax.training.program import Program


@pytest.fixture
def trained(request, config, dataset, tmp_path):
    config = changed(config, {"optimizer.ema_decay": getattr(request, "param", 0.0)})
    config = changed(config, {"epochs": 2, "warmup_epochs": 1})
    config = changed(config, {"checkpoint.every_seconds": 0.0})
    program = Program(config, dataset)
    return program, fit(program, METHODS["cdml"], 0, folder=tmp_path, save_last=True)


def shapes(program):
    state = program.abstract_state()
    return state.parameters, state.batch_statistics


@pytest.mark.parametrize("trained", [0.0, 0.8], indirect=True, ids=["last", "averaged"])
def test_weights_are_those_of_the_state_as_it_is_used(trained, tmp_path):
    program, run = trained
    weights = restore_weights(tmp_path, *shapes(program))
    for name, ours, theirs in zip(("parameters", "statistics"), weights, run.state.in_use):
        assert jax.tree.structure(ours) == jax.tree.structure(theirs), name
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)))
    assert np.array_equal(weights.counts.matrix, run.counts.matrix)
    assert weights.epoch == 2


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_a_run_is_evaluated_whatever_terms_trained_it(config, dataset, tmp_path, ema):
    """The program that evaluates knows nothing of the method, which may be a person's own."""
    config = changed(config, {"optimizer.ema_decay": ema, "epochs": 2, "warmup_epochs": 1})
    method = Method("Mine", structure=Structure(terms=(PairwiseConfusion(),)))
    program = Program(config, dataset, structure=method.structure)
    run = fit(program, method, 0, folder=tmp_path, save_last=True)
    plain = Program(config, dataset)
    state, epoch = restore_for_evaluation(tmp_path, plain)
    assert epoch == 2
    for ours, theirs in zip(jax.tree.leaves(state.in_use), jax.tree.leaves(run.state.in_use), strict=True):
        assert np.array_equal(ours, theirs)
        assert ours.sharding == theirs.sharding
    assert np.array_equal(plain.evaluate(state, "test").matrix, program.evaluate(run.state, "test").matrix)


def test_a_damaged_checkpoint_is_passed_over_and_left_where_it_is(trained, tmp_path, capsys):
    program, _ = trained
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in (newest / "run").rglob("*"):
        if file.is_file() and file.stat().st_size > 500 and "metadata" not in file.name.lower():
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
    assert restore_weights(tmp_path, *shapes(program)).epoch <= 2
    assert f"checkpoint {newest.name}" in capsys.readouterr().err
    assert newest.is_dir()


def test_another_network_is_refused(trained, tmp_path):
    program, _ = trained
    parameters, statistics = shapes(program)
    parameters["heads"]["classifier"]["bias"] = jax.ShapeDtypeStruct((7,), np.float32)
    with pytest.raises(UserError, match=r"heads.classifier.bias is \(6,\) there, \(7,\) here"):
        restore_weights(tmp_path, parameters, statistics)


def test_no_checkpoint_yet(tmp_path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        restore_weights(tmp_path, {}, {})
