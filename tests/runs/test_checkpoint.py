"""Checkpoints restored where the devices are others, or where there is nothing to restore."""

import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import epoch_counts

from cdml_jax.configuration.settings import changed
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.runs import loop
from cdml_jax.runs.checkpoint import Checkpoints
from cdml_jax.runs.checksums import checksums
from cdml_jax.training.epoch import plan_of_epoch
from cdml_jax.training.program import Program


class StopOnce(loop.Stop):
    """A signal that came before the first step."""

    def __init__(self):
        self.signal_number = signal.SIGTERM


def test_a_run_moves_to_another_number_of_devices(config, dataset, tmp_path, capsys):
    """The state but for the counts' layout is byte for byte the same, and so is the sum of the counts."""
    eight = Program(config, dataset, devices=jax.devices())
    with pytest.raises(loop.Interrupted):
        loop.fit(eight, METHODS["cdml"], 1, folder=tmp_path, stop=StopOnce())
    saved = Checkpoints(tmp_path / "checkpoints", keep=1).restore(eight)
    one = Program(config, dataset, devices=jax.devices()[:2])
    moved = Checkpoints(tmp_path / "checkpoints", keep=1).restore(one)
    assert "results differ" not in capsys.readouterr().err
    pair = Program(changed(config, {"model.batch_norm_devices": 2}), dataset, devices=jax.devices()[:2])
    Checkpoints(tmp_path / "checkpoints", keep=1).restore(pair)
    said = "model.batch_norm_devices=2: this run was saved on 8 devices and goes on with 2: groups"
    assert said in capsys.readouterr().err
    assert moved.state.counts.shape == (2, 6, 6)
    counts, expected = (
        epoch_counts(one, moved.state).matrix,
        epoch_counts(eight, saved.state).matrix,
    )
    np.testing.assert_allclose(counts, expected, rtol=1e-6)
    assert counts.sum() == pytest.approx(16, rel=1e-5)
    for name in ("parameters", "batch_statistics", "optimizer", "step"):
        for a, b in zip(
            jax.tree.leaves(getattr(saved.state, name)),
            jax.tree.leaves(getattr(moved.state, name)),
            strict=True,
        ):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    finished = loop.fit(one, METHODS["cdml"], 1, folder=tmp_path)
    assert finished.epoch == config.epochs


class StopInSecondEpoch(loop.Stop):
    """A signal that comes after the third step of the second epoch."""

    def __init__(self):
        self.looked = 0

    @property
    def signal_number(self):
        self.looked += 1
        return signal.SIGTERM if self.looked == 10 else None


@pytest.fixture
def x64(dtype):
    """For all threads: some of a restore's are Orbax's."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    yield
    jax.config.update("jax_enable_x64", False)


def next_step(program, run):
    """The plan of the epoch in which the run stands, and the loss of its next step."""
    feed, (epoch, first) = program.feed("train"), (run.epoch, run.step_in_epoch)
    facts = program.facts(run.statistics, run.counts)
    plan = plan_of_epoch(METHODS["cdml"], program.config, feed.labels, facts, seed=1, epoch=epoch)
    batch = next(feed.training(plan.order, seed=1, epoch=epoch, start_step=first))
    del batch["index"]
    before = float(run.state.metrics["loss"].total)
    state = program.step(run.state, mesh_lib.put_batch(program.mesh, batch), program.put_costs(plan.costs))
    return plan, float(state.metrics["loss"].total) - before


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("dtype", "before", "after"), [("float32", 8, 4), ("float64", 4, 1)])
def test_on_other_devices_state_and_plan_are_the_same_and_the_next_step_to_rounding(
    config, dataset, tmp_path, dtype, before, after
):
    config = changed(config, {"model.dtype": dtype, "confusion.counts": "hard"})
    there = Program(config, dataset, devices=jax.devices()[:before])
    with pytest.raises(loop.Interrupted):
        loop.fit(there, METHODS["cdml"], 1, folder=tmp_path, stop=StopInSecondEpoch())
    here = Program(config, dataset, devices=jax.devices()[:after])
    saved, moved = (Checkpoints(tmp_path / "checkpoints", keep=1).restore(p) for p in (there, here))
    assert (saved.epoch, saved.step_in_epoch) == (moved.epoch, moved.step_in_epoch) == (1, 3)
    assert saved.history == moved.history
    np.testing.assert_array_equal(
        epoch_counts(there, saved.state).matrix,
        epoch_counts(here, moved.state).matrix,
    )
    for run in (saved, moved):
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(run.state.parameters))
    kept = [(run.state._replace(counts=()), run.counts, run.statistics) for run in (saved, moved)]
    assert checksums(kept[0]) == checksums(kept[1])
    (plan, loss), (moved_plan, moved_loss) = next_step(there, saved), next_step(here, moved)
    for a, b in zip(jax.tree.leaves(plan), jax.tree.leaves(moved_plan), strict=True):
        np.testing.assert_array_equal(a, b)
    assert moved_loss == pytest.approx(loss, rel=1e-5 if dtype == "float32" else 1e-9, abs=0)


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


def test_checksums_do_not_depend_on_sharding_and_see_every_word():
    rng = np.random.default_rng(0)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    tree = {
        "single": rng.normal(size=(16, 3)).astype(np.float32),
        "half": rng.normal(size=(8, 5)).astype(jnp.bfloat16),
        "integers": rng.integers(-5, 5, (8, 2)).astype(np.int32),
        "key": jax.random.split(jax.random.key(3), 8),
        "scalar": np.float32(2.5),
    }
    whole = checksums(tree)
    sharded = {k: jax.device_put(v, split) if np.ndim(v) else v for k, v in tree.items()}
    assert checksums(sharded) == whole
    for name in ("single", "half", "integers"):
        bits = np.array(tree[name])
        view = bits.view(np.uint8).reshape(-1)
        for place in range(0, view.size, 5):
            view[place] ^= 1 << (place % 8)
            assert checksums({name: bits}) != {name: whole[name]}
            view[place] ^= 1 << (place % 8)


@pytest.fixture
def saved_twice(config, dataset, tmp_path):
    """A folder with two checkpoints, of steps 7 and 28."""
    config = changed(config, {"checkpoint.keep": 2})
    program = Program(config, dataset, devices=jax.devices()[:1])
    loop.fit(program, METHODS["cdml"], 1, folder=tmp_path, until_epoch=1, save_last=True)
    loop.fit(program, METHODS["cdml"], 1, folder=tmp_path, save_last=True)
    return program, tmp_path


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1
    path.write_bytes(content)


def test_every_damaged_file_is_found_and_the_older_checkpoint_used(saved_twice, capsys):
    """Flipped or cut: what is restored is either the older run or, bit for bit, the newer."""
    program, folder = saved_twice
    whole = Checkpoints(folder / "checkpoints", keep=2).restore(program)
    expected = checksums((whole.state, whole.counts))
    newest = folder / "checkpoints" / "28"
    copy = folder / "copy"
    shutil.copytree(newest, copy)
    found = 0
    files = sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) >= 5
    for path in files:
        size = (copy / path.relative_to(newest)).stat().st_size
        for damage in ("first", "middle", "cut"):
            shutil.rmtree(newest, ignore_errors=True)
            shutil.rmtree(newest.parent / "damaged-28", ignore_errors=True)
            shutil.copytree(copy, newest)
            if damage == "cut":
                path.write_bytes(path.read_bytes()[: size // 2])
            else:
                flip(path, 0 if damage == "first" else size // 2)
            run = Checkpoints(folder / "checkpoints", keep=2).restore(program)
            error = capsys.readouterr().err
            if int(run.state.step) == 7:
                found += 1
                assert "checkpoint 28" in error
                assert "is damaged" in error
            else:
                assert checksums((run.state, run.counts)) == expected
                assert run.epoch == whole.epoch
    assert found >= 12


def test_with_no_good_checkpoint_the_run_stops_and_says_so(saved_twice):
    program, folder = saved_twice
    for path in (folder / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the checkpoints 28, 7 can be read"):
        loop.fit(program, METHODS["cdml"], 1, folder=folder)
