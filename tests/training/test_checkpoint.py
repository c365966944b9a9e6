"""Checkpoints restored where the devices are others, or where there is nothing to restore."""

import signal

import jax
import numpy as np
import pytest

from cdml_jax.errors import UserError
from cdml_jax.training import loop
from cdml_jax.training.checkpoint import Checkpoints
from cdml_jax.training.program import Program


class StopOnce(loop.Stop):
    """A signal that came before the first step."""

    def __init__(self):
        self.signal_number = signal.SIGTERM


def test_a_run_moves_to_another_number_of_devices(config, dataset, tmp_path):
    """The state but for the counts' layout is byte for byte the same, and so is the sum of the counts."""
    eight = Program(config, dataset, devices=jax.devices())
    with pytest.raises(loop.Interrupted):
        loop.fit(eight, "cdml", 1, folder=tmp_path, stop=StopOnce())
    saved = Checkpoints(tmp_path / "checkpoints", keep=1).restore(eight)
    one = Program(config, dataset, devices=jax.devices()[:2])
    moved = Checkpoints(tmp_path / "checkpoints", keep=1).restore(one)
    assert moved.state.counts.shape == (2, 6, 6)
    np.testing.assert_allclose(one.epoch_counts(moved.state), eight.epoch_counts(saved.state), rtol=1e-6)
    assert one.epoch_counts(moved.state).sum() == pytest.approx(16, rel=1e-5)
    for name in ("parameters", "batch_statistics", "optimizer", "step"):
        for a, b in zip(
            jax.tree.leaves(getattr(saved.state, name)),
            jax.tree.leaves(getattr(moved.state, name)),
            strict=True,
        ):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    finished = loop.fit(one, "cdml", 1, folder=tmp_path)
    assert finished.epoch == config.epochs


def test_nothing_saved_restores_nothing(config, dataset, tmp_path):
    program = Program(config, dataset, devices=jax.devices()[:1])
    assert Checkpoints(tmp_path / "none", keep=1).restore(program) is None
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_is_named(config, dataset, tmp_path):
    (tmp_path / "file").write_text("")
    program = Program(config, dataset, devices=jax.devices()[:1])
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints", keep=1)
    with pytest.raises(UserError, match="cannot be kept"):
        checkpoints.save(loop.begin(program, 0))
