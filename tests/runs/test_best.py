"""The best epoch by validation beside the last, early stopping, and what becomes of both after a kill."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from tiny_run import StopAt

from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.runs import loop, stored
from cdml_jax.runs.best import best_of
from cdml_jax.runs.trained_weights import restore_for_evaluation
from cdml_jax.training.program import Program


@pytest.fixture
def program(config, dataset):
    few = {"epochs": 6, "warmup_epochs": 1, "evaluate_every": 1, "optimizer.learning_rate": 0.3}
    return Program(changed(config, few), dataset, devices=jax.devices()[:1])


def kept(folder):
    """Step and checksums of the best epoch that a folder keeps."""
    (path,) = (folder / "best").iterdir()
    return int(path.name), stored.read_meta(path)["checksums"]


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_the_network_of_the_best_epoch_is_kept_and_evaluated_as_it_was(program, dataset, tmp_path, ema):
    program = Program(changed(program.config, {"optimizer.ema_decay": ema}), dataset, jax.devices()[:1])
    run = loop.fit(program, METHODS["baseline"], 0, folder=tmp_path, save_last=True, keep_best=True)
    best = best_of(run.history)
    accuracies = [entry["validation_accuracy"] for entry in run.history]
    assert best["epoch"] == 1 + accuracies.index(max(accuracies))
    state, epoch = restore_for_evaluation(tmp_path, program, best=True)
    assert (kept(tmp_path)[0], epoch) == (best["step"], best["epoch"])
    counts = program.evaluate(state, "validation").matrix
    assert np.trace(counts) / counts.sum() == best["validation_accuracy"]
    assert restore_for_evaluation(tmp_path, program)[1] == 6


@pytest.mark.parametrize("looks", [9, 20, 30])
def test_a_run_that_was_stopped_keeps_the_same_best(program, tmp_path, looks):
    loop.fit(program, METHODS["cdml"], 2, folder=tmp_path / "straight", keep_best=True)
    for _ in range(2):  # the second goes back behind what the first has kept
        with pytest.raises(loop.Interrupted):
            loop.fit(program, METHODS["cdml"], 2, folder=tmp_path / "run", stop=StopAt(looks), keep_best=True)
        shutil.rmtree(tmp_path / "run/checkpoints")
    loop.fit(program, METHODS["cdml"], 2, folder=tmp_path / "run", keep_best=True)
    assert kept(tmp_path / "run") == kept(tmp_path / "straight")


def test_early_stopping_ends_where_the_history_says_and_not_again_later(program, dataset, tmp_path):
    straight = loop.fit(program, METHODS["cdml"], 2)
    accuracies = [entry["validation_accuracy"] for entry in straight.history]
    end = next(k for k in range(1, 6) if accuracies[k] <= max(accuracies[:k])) + 1
    assert end < 6
    patient = Program(changed(program.config, {"early_stopping": 1}), dataset, jax.devices()[:1])
    for _ in range(2):
        run = loop.fit(patient, METHODS["cdml"], 2, folder=tmp_path, save_last=True)
        assert [entry["validation_accuracy"] for entry in run.history] == accuracies[:end]
    on = loop.fit(program, METHODS["cdml"], 2, folder=tmp_path)
    assert [entry["validation_accuracy"] for entry in on.history] == accuracies


def test_without_validation_images_nothing_can_be_waited_for(program, dataset):
    patient = changed(program.config, {"early_stopping": 1})
    alone = {"train": dataset.splits["train"]}
    bare = Program(patient, dataclasses.replace(dataset, splits=alone), jax.devices()[:1])
    with pytest.raises(UserError, match="early_stopping: there is no validation split"):
        loop.fit(bare, METHODS["baseline"], 0)
