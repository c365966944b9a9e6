"""A run whose workdir is in a bucket: what a run on a disk is, through stops, torn saves and damage."""

import jax
import numpy as np
import pytest
from test_log import logged
from test_loop import assert_bitwise_equal, timeless
from tiny_run import StopAt

from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.reporting import results
from cdml_jax.reporting.results import RunResult
from cdml_jax.runs import loop, opening, workdir
from cdml_jax.runs.best import FOLDER
from cdml_jax.runs.checkpoint import Checkpoints, keep_newest, steps_kept
from cdml_jax.runs.claims import held
from cdml_jax.runs.trained_weights import restore_weights
from cdml_jax.system import leases
from cdml_jax.training.program import Program

CDML = METHODS["cdml"]


@pytest.fixture(scope="module")
def programs():
    return {}


@pytest.fixture
def program(config, dataset, programs):
    if not programs:
        programs["one"] = Program(config, dataset, devices=jax.devices()[:1])
    return programs["one"]


@pytest.fixture
def folder(bucket, stand_in):
    """Of an empty bucket."""
    stand_in.buckets["bucket"].clear()
    return bucket / "runs" / "one"


def under(stand_in, prefix):
    return {name: value for name, value in stand_in.buckets["bucket"].items() if name.startswith(prefix)}


def test_a_stopped_run_with_a_torn_save_continues_bit_for_bit(program, folder, stand_in, tmp_path, capsys):
    straight = loop.fit(program, CDML, 2, folder=tmp_path, save_last=True, keep_best=True)
    with pytest.raises(loop.Interrupted) as stopped:
        loop.fit(program, CDML, 2, folder=folder, stop=StopAt(16), keep_best=True)
    step = stopped.value.step
    assert steps_kept(folder) == [step]
    # A save that was killed: all of its objects, but not the one that comes last.
    newest, torn = (f"runs/one/checkpoints/{number}/" for number in (step, step + 1))
    objects = stand_in.buckets["bucket"]
    objects |= {torn + name.removeprefix(newest): value for name, value in under(stand_in, newest).items()}
    del objects[torn + "commit_success.txt"]
    assert steps_kept(folder) == [step]
    capsys.readouterr()
    again = loop.fit(program, CDML, 2, folder=folder, save_last=True, keep_best=True)
    said = capsys.readouterr().out
    assert f"Removed 1 half-written checkpoint of a run that was killed ({step + 1})" in said
    assert f"continuing at step {step}" in said
    assert not under(stand_in, torn)
    assert_bitwise_equal(again, straight)
    assert timeless(again.history) == timeless(straight.history)
    assert steps_kept(folder) == [step, program.total_steps]
    here, there = ([(e, loss) for e, loss in logged(place)[0]] for place in (tmp_path, folder))
    assert here == there == logged(folder)[1]
    assert [epoch for epoch, _ in there] == [1, 2, 3, 4]
    trees = program.initial_state(0)
    for best in (False, True):
        disk, cloud = (
            restore_weights(place, trees.parameters, trees.batch_statistics, best=best)
            for place in (tmp_path, folder)
        )
        for a, b in zip(jax.tree.leaves(disk), jax.tree.leaves(cloud), strict=True):
            np.testing.assert_array_equal(a, b)
    assert opening.checkpoints_in(folder / FOLDER) == opening.checkpoints_in(tmp_path / FOLDER)
    keep_newest(folder)
    assert steps_kept(folder) == [program.total_steps]


def test_a_damaged_checkpoint_is_left_aside(program, folder, stand_in, capsys):
    with pytest.raises(loop.Interrupted):
        loop.fit(program, CDML, 2, folder=folder, stop=StopAt(3))
    (step,) = steps_kept(folder)
    assert Checkpoints(folder / "checkpoints", keep=3).restore(program) is not None
    objects, place = stand_in.buckets["bucket"], f"runs/one/checkpoints/{step}/meta/metadata"
    whole = objects[place]
    objects[place] = (
        whole[0],
        whole[1].replace(b'"epoch": 0', b'"epoch": 1').replace(b'"epoch":0', b'"epoch":1'),
    )
    assert objects[place] != whole
    with pytest.raises(UserError, match=rf"none of the checkpoints {step} can be read"):
        Checkpoints(folder / "checkpoints", keep=3).restore(program)
    assert f"checkpoint {step} in gs://bucket/runs/one/checkpoints is damaged" in capsys.readouterr().err
    assert under(stand_in, f"runs/one/checkpoints/damaged-{step}/")
    assert not under(stand_in, f"runs/one/checkpoints/{step}/")
    with pytest.raises(UserError, match=rf"holds no whole checkpoint, but damaged-{step}: bring"):
        Checkpoints(folder / "checkpoints", keep=3).restore(program)


def test_a_workdir_that_was_copied_from_a_disk_goes_on(program, folder, stand_in, tmp_path, capsys):
    """Orbax marks a checkpoint on a disk as whole by the same file as one in a bucket."""
    with pytest.raises(loop.Interrupted):
        loop.fit(program, CDML, 2, folder=tmp_path, stop=StopAt(10))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            name = f"runs/one/{path.relative_to(tmp_path).as_posix()}"
            stand_in.buckets["bucket"][name] = (1, path.read_bytes())
    capsys.readouterr()
    again = loop.fit(program, CDML, 2, folder=folder, save_last=True)
    assert "continuing at step 11" in capsys.readouterr().out
    assert_bitwise_equal(again, loop.fit(program, CDML, 2))


@pytest.mark.parametrize("what", ["GET .*/o/.*/run/", "POST /upload"], ids=["reads", "writes"])
def test_a_bucket_that_no_longer_answers_ends_a_run_in_a_line(program, folder, stand_in, what):
    with pytest.raises(loop.Interrupted):
        loop.fit(program, CDML, 2, folder=folder, stop=StopAt(3))
    kept = steps_kept(folder)
    stand_in.refused[what] = 403
    try:
        with pytest.raises(UserError, match="gs://bucket/runs/one") as refused:
            loop.fit(program, CDML, 2, folder=folder, save_last=True)
    finally:
        stand_in.refused.clear()
    assert "run the same command again" in str(refused.value)
    assert steps_kept(folder) == kept
    assert loop.fit(program, CDML, 2, folder=folder).epoch == program.config.epochs


def test_a_workdir_is_claimed_and_held(folder, config, monkeypatch):
    monkeypatch.setattr(leases, "SIGN_SECONDS", 0.1)
    workdir.claim(folder, "train", config, "images")
    workdir.claim(folder, "train", config, "images")
    assert workdir.read(folder)["fingerprint"] == "images"
    with pytest.raises(UserError, match="another configuration"):
        workdir.claim(folder, "train", changed(config, {"batch_size": 8}), "images")
    workdir.look(folder, "train", config)
    with (
        held(folder),
        pytest.raises(UserError, match=r"gs://bucket/runs/one is in use by another run; .*holds"),
    ):
        workdir.look(folder, "train", config)
    workdir.look(folder, "train", config)


def test_results_come_back(folder):
    counts = np.array([[3, 1], [0, 4]])
    result = RunResult("cdml", 2, 10, 1.5, counts, counts.T.copy(), [{"epoch": 1, "loss": 0.5}])
    results.save(result, folder / "results")
    (found,) = results.load(folder / "results")
    np.testing.assert_array_equal(found.test_counts, counts.T)
    assert results.write_rows([found], folder)[0].exists()
