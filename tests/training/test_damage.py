"""Disks that are full, read-only or gone, and checkpoints that were cut, emptied or lost in part."""

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from messages import like, says

from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.reporting import results
from cdml_jax.runs import loop, workdir
from cdml_jax.runs.checkpoint import Checkpoints
from cdml_jax.runs.checksums import checksums
from cdml_jax.runs.log import Writers
from cdml_jax.training.program import Program


@pytest.fixture
def program(config, dataset):
    config = changed(config, {"checkpoint.keep": 3})
    return Program(config, dataset, devices=jax.devices()[:1])


@pytest.fixture
def run(program):
    return loop.begin(program, 0)


def at_step(run, step):
    """The same run, as if it stood elsewhere."""
    return dataclasses.replace(run, state=run.state._replace(step=run.state.step + step))


@pytest.fixture
def saved(program, run, tmp_path):
    """Checkpoints of steps 1 and 2, and what the first holds."""
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", keep=3)
    for step in (1, 2):
        checkpoints.save(at_step(run, step))
    checkpoints.close()
    return checkpoints.folder


def restored_step(folder, program):
    return int(Checkpoints(folder, keep=3).restore(program).state.step)


def fail_writing(monkeypatch, number):
    """Writing fails in Orbax's own thread, after `save` has returned, as on a real disk."""

    async def failing(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ocp.JsonCheckpointHandler, "_save_fn", failing)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device): make room there"),
        (errno.EDQUOT, "Disk quota exceeded): make room there"),
        (errno.EROFS, "Read-only file system): make it writable"),
        (errno.EIO, "Input/output error): is its disk still there?"),
    ],
)
def test_a_save_that_fails_later_is_told_and_what_was_saved_stays(
    program, run, saved, monkeypatch, number, advice
):
    fail_writing(monkeypatch, number)
    checkpoints = Checkpoints(saved, keep=3)
    checkpoints.save(at_step(run, 3))
    with pytest.raises(UserError) as told:
        checkpoints.close()
    assert says(
        f"{saved} cannot be written ({advice}, then run the same command again; what was saved before stays",
        str(told.value),
    )
    monkeypatch.undo()
    # Other writers may still be at work in what is left of 3: it is no checkpoint.
    assert sorted(path.name for path in saved.iterdir() if path.name.isdecimal()) == ["1", "2"]
    assert restored_step(saved, program) == 2


def test_the_next_save_tells_what_became_of_the_last(run, saved, monkeypatch):
    fail_writing(monkeypatch, errno.ENOSPC)
    checkpoints = Checkpoints(saved, keep=3)
    checkpoints.save(at_step(run, 3))
    with pytest.raises(UserError, match="No space left"):
        checkpoints.save(at_step(run, 4))


@pytest.mark.parametrize("loss", [shutil.rmtree, lambda folder: folder.rename(folder.with_name("elsewhere"))])
def test_a_folder_that_goes_during_the_run_is_not_made_again(run, saved, loss):
    checkpoints = Checkpoints(saved, keep=3)
    assert checkpoints.latest() == 2
    loss(saved.parent)
    with pytest.raises(UserError, match="is gone since the run began: moved, deleted, or its disk was lost"):
        checkpoints.save(at_step(run, 3))
    assert not saved.parent.exists()


def test_a_log_whose_folder_goes_is_not_begun_again(tmp_path):
    writers = Writers(tmp_path / "run", [])
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="is its disk still there"):
        writers.write({"epoch": 1, "loss": 2.0})
    assert not list((tmp_path / "run").iterdir())
    assert (tmp_path / "elsewhere" / "metrics.jsonl").read_text() == ""


def test_results_on_a_full_disk_leave_no_half(tmp_path, monkeypatch):
    counts = np.eye(3, dtype=np.int64)
    result = results.RunResult("cdml", 0, 9, 1.0, counts, counts)

    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(epath.Path(tmp_path)), "write_bytes", full)
    with pytest.raises(UserError, match="make room there"):
        results.save(result, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_fills_up_as_it_is_claimed_keeps_its_configuration(config, tmp_path, monkeypatch):
    workdir.claim(tmp_path, "train", config, "f")
    before = (tmp_path / "config.json").read_text()
    config = changed(config, {"checkpoint.keep": 9})

    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(epath.Path()), "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): make room there"):
        workdir.claim(tmp_path, "train", config, "f")
    assert (tmp_path / "config.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def damaged(content):
    """Copies with one bit flipped, or cut: at other places than test_checkpoint.py does."""
    for at in (len(content) // 4, len(content) - 1):
        yield f"bit at {at}", content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
    for length in (0, len(content) - 1):
        yield f"cut at {length}", content[:length]


def test_a_file_damaged_near_its_ends_or_lost_is_never_taken_for_whole(program, saved, capsys):
    """Either the older checkpoint is used and the newer named, or the newer comes back bit for bit."""
    newest, copy = saved / "2", saved.parent / "copy"
    whole = Checkpoints(saved, keep=3).restore(program)
    expected = checksums((whole.state, whole.counts, whole.statistics))
    shutil.copytree(newest, copy)
    named = 0
    for path in sorted(p.relative_to(newest) for p in Path(newest).rglob("*") if p.is_file()):
        content = (copy / path).read_bytes()
        for what, data in [*(damaged(content) if content else ()), ("lost", None)]:
            shutil.rmtree(newest, ignore_errors=True)
            shutil.rmtree(saved / "damaged-2", ignore_errors=True)
            shutil.copytree(copy, newest)
            (newest / path).unlink() if data is None else (newest / path).write_bytes(data)
            run = Checkpoints(saved, keep=3).restore(program)
            said = capsys.readouterr().err
            if int(run.state.step) == 1:
                assert f"checkpoint 2 in {saved} is damaged" in said, (path, what)
                assert (saved / "damaged-2").is_dir() or not newest.exists()
                named += 1
            else:
                assert checksums((run.state, run.counts, run.statistics)) == expected, (path, what)
    assert named > 12


def test_a_checkpoint_that_was_never_finished_is_not_looked_at(program, saved):
    (saved / "2").rename(saved / "2.orbax-checkpoint-tmp")
    assert restored_step(saved, program) == 1


def test_a_folder_of_damaged_checkpoints_alone_stops_the_run_and_stays_as_evidence(program, saved, capsys):
    for step in ("1", "2"):
        shutil.rmtree(saved / step / "meta")
    with pytest.raises(UserError, match=like("none of the checkpoints 2, 1 can be read; delete the workdir")):
        loop.fit(program, METHODS["cdml"], 0, folder=saved.parent)
    assert capsys.readouterr().err.count("is damaged") == 2
    assert {path.name for path in saved.iterdir()} == {"damaged-1", "damaged-2"}
