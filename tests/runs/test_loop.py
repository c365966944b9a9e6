"""Whole runs: one trace, exact resumption, warm-up, logs, and what ends a run early."""

import json
import signal
import types

import jax
import numpy as np
import pytest
from tiny_run import StopAt

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion.figures import kinship
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.runs import loop
from cdml_jax.runs.timing import TIMING_KEYS
from cdml_jax.training.program import Program


@pytest.fixture
def program(config, dataset):
    return Program(config, dataset, devices=jax.devices()[:1])


def leaves(run):
    keys_as_data = jax.tree.map(
        lambda a: jax.random.key_data(a) if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) else a,
        (run.state, run.counts, run.statistics),
    )
    return [np.asarray(leaf) for leaf in jax.tree.leaves(keys_as_data)]


def assert_bitwise_equal(first, second):
    assert (first.epoch, first.step_in_epoch) == (second.epoch, second.step_in_epoch)
    for a, b in zip(leaves(first), leaves(second), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def timeless(history):
    return [{k: v for k, v in entry.items() if k not in TIMING_KEYS} for entry in history]


def test_one_compiled_step_serves_all_rows_epochs_and_seeds(program):
    plain = [method for method in METHODS.values() if method.structure == program.structure]
    assert len(plain) > 10
    for method in plain:
        for seed in (0, 1):
            run = loop.fit(program, method, seed)
            assert run.epoch == program.config.epochs
            assert np.isfinite(run.history[-1]["loss"])
    assert program.traces["step"] == 1
    assert program.traces["evaluate"] == 1


def test_a_run_is_repeated_bit_for_bit(program):
    assert_bitwise_equal(loop.fit(program, METHODS["cdml"], 5), loop.fit(program, METHODS["cdml"], 5))


@pytest.mark.parametrize("looks", [9, 16], ids=["inside an epoch", "later"])
def test_a_stopped_run_continues_bit_for_bit(program, tmp_path, looks):
    straight = loop.fit(program, METHODS["cdml"], 2)
    with pytest.raises(loop.Interrupted) as stopped:
        loop.fit(program, METHODS["cdml"], 2, folder=tmp_path, stop=StopAt(looks))
    assert 0 < stopped.value.step < program.total_steps
    assert stopped.value.step % program.steps_per_epoch
    again = loop.fit(program, METHODS["cdml"], 2, folder=tmp_path, save_last=True)
    assert_bitwise_equal(again, straight)
    assert timeless(again.history) == timeless(straight.history)
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in logged] == [1, 2, 3, 4]


def test_a_run_stopped_on_eight_devices_continues_bit_for_bit(config, dataset, tmp_path):
    program = Program(config, dataset, devices=jax.devices())
    straight = loop.fit(program, METHODS["cdml"], 2)
    with pytest.raises(loop.Interrupted):
        loop.fit(program, METHODS["cdml"], 2, folder=tmp_path, stop=StopAt(10))
    assert_bitwise_equal(loop.fit(program, METHODS["cdml"], 2, folder=tmp_path), straight)


def test_rows_share_their_warm_up_and_part_after_it(program):
    runs = {method: loop.fit(program, METHODS[method], 1) for method in ("baseline", "cdml")}
    warm = program.config.warmup_epochs
    assert runs["baseline"].history[warm - 1]["loss"] == runs["cdml"].history[warm - 1]["loss"]
    assert runs["baseline"].history[warm]["loss"] != runs["cdml"].history[warm]["loss"]
    assert [entry["triplet_weight"] for entry in runs["baseline"].history] == [0.0] * 4
    assert runs["cdml"].history[warm - 1]["triplet_weight"] == 0.0


def test_a_forked_warm_up_gives_the_row_itself(program):
    warm = loop.fit(program, METHODS["baseline"], 3, until_epoch=program.config.warmup_epochs)
    for method in ("weighted_softmax", "cdml"):
        assert_bitwise_equal(
            loop.fit(program, METHODS[method], 3, start=loop.fork(program, warm)),
            loop.fit(program, METHODS[method], 3),
        )


def test_training_learns_and_confuses_kin(program, dataset):
    run = loop.fit(program, METHODS["baseline"], 0)
    assert run.history[-1]["validation_accuracy"] > 0.45
    counts = program.evaluate(run.state, "test").matrix
    same = kinship(dataset.classes.families)
    wrong = counts * (1 - np.eye(6, dtype=int))
    assert wrong[same].sum() > 0.6 * wrong.sum()


def test_evaluation_does_not_depend_on_the_batch_or_the_devices(config, dataset):
    counts = []
    for batch_size, devices in ((16, 1), (56, 8)):
        config = changed(config, {"batch_size": batch_size})
        program = Program(config, dataset, devices=jax.devices()[:devices])
        state = program.initial_state(4)
        hard, soft = (program.evaluate(state, "validation", soft=soft).matrix for soft in (False, True))
        counts.append((hard, soft))
        assert hard.sum() == 54
    assert np.array_equal(counts[0][0], counts[1][0])
    np.testing.assert_allclose(counts[0][1], counts[1][1], rtol=1e-4, atol=1e-5)


def test_counts_keep_what_decay_leaves_of_earlier_epochs(config, dataset):
    totals = {}
    for decay in (0.0, 0.5):
        config = changed(config, {"confusion.decay": decay})
        run = loop.fit(Program(config, dataset, jax.devices()[:1]), METHODS["baseline"], 0)
        totals[decay] = run.counts.matrix.sum()
    shown = 112
    assert totals[0.0] == pytest.approx(shown, rel=1e-4)
    assert totals[0.5] == pytest.approx(shown * (1 + 0.5 + 0.25 + 0.125), rel=1e-4)


@pytest.mark.parametrize("counts", ["hard", "soft"])
def test_held_out_counts_come_from_the_held_out_images(config, dataset, counts):
    config = changed(
        config,
        {
            "confusion.source": "holdout",
            "confusion.counts": counts,
            "confusion.decay": 0.0,
            "data.holdout": "holdout",
        },
    )
    run = loop.fit(Program(config, dataset, jax.devices()[:1]), METHODS["cdml"], 0)
    kept = run.counts.matrix
    np.testing.assert_allclose(kept.sum(1), 4, rtol=1e-5)
    assert (kept == np.round(kept)).all() == (counts == "hard")


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(config, dataset, tmp_path):
    config = changed(
        config, {"optimizer.learning_rate": 1e30, "optimizer.warmup_share": 0.0, "optimizer.clip_norm": 0.0}
    )
    program = Program(config, dataset, devices=jax.devices()[:1])
    with pytest.raises(UserError, match=r"the loss of step \d+ is not finite \(learning rate \S+e\+\d+\)"):
        loop.fit(program, METHODS["baseline"], 0, folder=tmp_path)


def test_the_log_names_the_most_confused_pairs_and_their_share(program):
    entry = loop.fit(program, METHODS["cdml"], 0).history[-1]
    first = entry["confused_pairs"][0]
    assert {first["true"], first["called"]} <= set("abcdef")
    shares = [pair["share"] for pair in entry["confused_pairs"]]
    weights = [pair["weight"] for pair in entry["confused_pairs"]]
    assert sum(shares) == pytest.approx(sum(weights), abs=0.2)
    assert sum(shares) > 0.3


def test_an_epochs_entry_has_its_times(program, tmp_path):
    program.config = changed(program.config, {"checkpoint.every_seconds": 0.0})
    run = loop.fit(program, METHODS["cdml"], 0, folder=tmp_path, until_epoch=2)
    images = program.steps_per_epoch * program.config.batch_size
    for entry in run.history:
        assert TIMING_KEYS - entry.keys() == {"peak_memory_bytes"}  # which a CPU does not count
        assert entry["images_per_second"] * entry["seconds"] == pytest.approx(images, rel=0.05)
        assert 0 < entry["step_ms_p50"] <= entry["step_ms_max"] <= 1e3 * entry["seconds"] + 1
        assert entry["checkpoint_seconds"] > 0
    assert sum(entry["seconds"] for entry in run.history) == pytest.approx(run.seconds, abs=0.01)


@pytest.mark.parametrize(("every", "saved"), [(10, [10, 20]), (14, [14, 28]), (100, [])])
def test_saving_goes_by_time_and_not_by_epoch(program, tmp_path, monkeypatch, every, saved):
    assert (program.steps_per_epoch, program.config.epochs) == (7, 4)
    program.config = changed(program.config, {"checkpoint.every_seconds": every})
    now, steps, stepped = [0.0], [], loop.StepClock.stepped

    def a_second_each(clock, step):
        stepped(clock, step)
        now[0] += 1

    monkeypatch.setattr(loop.StepClock, "stepped", a_second_each)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(loop.Checkpoints, "save", lambda _, run: steps.append(int(run.state.step)))
    loop.fit(program, METHODS["baseline"], 0, folder=tmp_path)
    assert steps == saved


@pytest.mark.parametrize(("epochs", "times"), [(1, 0), (4, 1)])
def test_a_slow_input_is_mentioned_once_and_not_by_the_first_epoch(
    program, monkeypatch, capsys, epochs, times
):
    monkeypatch.setattr(loop, "input_advice", lambda entry, **_: f"slow in epoch {entry['epoch']}")
    loop.fit(program, METHODS["baseline"], 0, until_epoch=epochs)
    said = capsys.readouterr().err
    assert said.count("slow in epoch") == said.count("cdml: slow in epoch 2") == times


def test_a_second_signal_ends_at_once():
    with loop.Stop().listening() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
