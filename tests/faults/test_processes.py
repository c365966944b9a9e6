"""Several processes of the real command as one run: the same figures, and one end for all when one fails."""

import json
import shutil
import signal
import time

import pytest

STEPS = 6  # an epoch's
LONGEST = 240  # seconds that a start may take on a busy machine
# JAX itself ends a process whose coordinator, the first process, is gone; its words come first, or ours.
GONE = {0: ("process 0 is gone: ", "the leader task was preempted/died"), 1: ("process 1 is gone: ",)}


def assert_same_figures(one, other, relative):
    """What is counted is equal, what is summed is equal to rounding."""
    assert [entry["step"] for entry in one] == [entry["step"] for entry in other]
    for first, second in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        for name in ("accuracy", "mean_class_error", "valid_share", "active_share"):
            assert first[name] == second[name], name
        for name in ("validation_accuracy", "validation_mean_class_error"):
            assert first.get(name) == second.get(name), name
        assert [pair["share"] for pair in first["confused_pairs"]] == [
            pair["share"] for pair in second["confused_pairs"]
        ]
        for name in ("loss", "softmax_loss", "triplet_loss", "positive_distance", "gradient_norm"):
            assert first[name] == pytest.approx(second[name], rel=relative), name


def assert_one_speaks(said):
    """The first process says how many there are, and it alone the figures."""
    assert f"{len(said)} processes, 4 x cpu, mesh 4 x 1 (data x model), " in said[0]
    assert "validation accuracy" in said[0]
    assert not any("validation accuracy" in text for text in said[1:])


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    """One process, four devices: two epochs in float32, four in float64."""
    folder = tmp_path_factory.mktemp("alone")
    short, _ = trained(folder / "single", 1, 4, "--config.epochs=2")
    long, _ = trained(folder / "double", 1, 4, "--config.epochs=4", double=True)
    return short, long


@pytest.fixture(scope="module")
def two(trained, tmp_path_factory):
    """Two processes of two devices, float64, never disturbed: the log and the workdir."""
    folder = tmp_path_factory.mktemp("two") / "double"
    log, _ = trained(folder, 2, 2, "--config.epochs=4", double=True)
    return log, folder


@pytest.mark.program
def test_two_processes_train_as_one(alone, trained, tmp_path):
    log, said = trained(tmp_path / "run", 2, 2, "--config.epochs=2", "--verbose")
    assert_one_speaks(said)
    assert_same_figures(alone[0], log, relative=1e-5)


@pytest.mark.program
def test_two_processes_train_as_one_over_many_steps(alone, two):
    assert alone[1][-1]["step"] == 4 * STEPS
    assert_same_figures(alone[1], two[0], relative=1e-9)


@pytest.mark.slow
@pytest.mark.program
def test_four_processes_train_as_one_over_many_steps(alone, trained, tmp_path):
    log, said = trained(tmp_path / "run", 4, 1, "--config.epochs=4", "--verbose", double=True)
    assert_one_speaks(said)
    assert_same_figures(alone[1], log, relative=1e-9)


@pytest.mark.program
@pytest.mark.parametrize("storage", ["by_class", pytest.param("top", marks=pytest.mark.slow)])
def test_two_processes_share_large_label_spaces(alone, trained, tmp_path, storage):
    """Three classes fit both forms whole: what is kept is what the matrices keep."""
    log, _ = trained(
        tmp_path / "run", 2, 2, "--config.epochs=4", f"--config.confusion.storage={storage}", double=True
    )
    assert [entry["step"] for entry in log] == [entry["step"] for entry in alone[1]]
    if storage == "by_class":
        assert_same_figures(alone[1], log, relative=1e-6)
    else:  # of the same law, but other draws
        assert log[0]["accuracy"] == alone[1][0]["accuracy"]
        assert log[0]["mean_class_error"] == pytest.approx(alone[1][0]["mean_class_error"], rel=1e-6)


@pytest.fixture(scope="module")
def stopped(start, tmp_path_factory):
    """As `two`, but SIGTERM came to the second process alone: statuses, texts and the workdir."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with start(folder, 2, 2, "--config.epochs=4", double=True) as run:
        run.until(lambda: run.listens(1))
        run.processes[1].send_signal(signal.SIGTERM)
        return run.statuses(), run.texts(), folder


def checksums_of(workdir):
    """Digest of every array of the last checkpoint, by name."""
    last = max((path for path in (workdir / "checkpoints").glob("[0-9]*")), key=lambda path: int(path.name))
    return json.loads((last / "meta" / "metadata").read_text())["checksums"]


@pytest.mark.program
def test_a_signal_to_one_process_saves_all_at_the_same_step(stopped):
    statuses, texts, folder = stopped
    assert statuses == [143, 143], texts
    assert [path.name for path in (folder / "checkpoints").glob("[0-9]*")] == [str(STEPS)]
    for text in texts:
        assert f"stopped at step {STEPS}; the same command continues there" in text
        assert "Traceback" not in text


@pytest.mark.program
def test_the_same_command_continues_exactly(stopped, two, trained, tmp_path):
    shutil.copytree(stopped[2], tmp_path / "run")
    log, said = trained(tmp_path / "run", 2, 2, "--config.epochs=4", double=True)
    assert f"continuing at step {STEPS}" in said[0]
    assert checksums_of(tmp_path / "run") == checksums_of(two[1])
    assert_same_figures(two[0], log, relative=0)


@pytest.mark.program
def test_one_process_continues_what_two_began(stopped, two, trained, tmp_path):
    shutil.copytree(stopped[2], tmp_path / "run")
    log, said = trained(tmp_path / "run", 1, 1, "--config.epochs=4", double=True)
    assert f"continuing at step {STEPS}" in said[0]
    assert_same_figures(two[0], log, relative=1e-9)


@pytest.mark.program
def test_an_image_that_one_process_cannot_read_ends_all_with_its_name(start, photographs, tmp_path):
    """The other one waits inside a collective meanwhile."""
    broken = tmp_path / "second" / photographs.name
    shutil.copytree(photographs, broken)
    for path in (broken / "owl").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    reading = ["--config.data.check=False", "--config.data.cache_bytes=0"]
    with start(tmp_path / "run", 2, 2, *reading, places=[photographs.parent, broken.parent]) as run:
        run.processes[1].wait(LONGEST)
        began = time.monotonic()
        assert run.statuses(60) == [2, 2], run.texts()
        print(f"ended after {time.monotonic() - began:.1f} s")
        whole, failed = run.texts()
    message = next(line for line in failed.splitlines() if line.startswith("cdml: "))
    assert "owl/" in message
    assert message.replace("cdml: ", "cdml: process 1 failed: ") in whole


@pytest.mark.program
@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_the_other_within_a_minute(start, tmp_path, victim):
    with start(tmp_path / "run", 2, 2, "--config.epochs=100000") as run:
        run.until(lambda: (tmp_path / "run/metrics.jsonl").exists())
        time.sleep(1)
        run.processes[victim].kill()
        began = time.monotonic()
        statuses = run.statuses(60)
        print(f"ended after {time.monotonic() - began:.1f} s: {statuses}")
        left = run.texts()[1 - victim]
    assert statuses[1 - victim] not in (0, 2), left
    assert any(words in left for words in GONE[victim]), left


@pytest.mark.program
def test_two_processes_keep_their_run_in_a_bucket(bucket, stand_in, environment, start, trained, tmp_path):
    """Stopped in one of them, and continued, the run is that of a disk; each writes its own arrays there."""
    expected, _ = trained(tmp_path / "disk", 2, 2, "--config.epochs=3", double=True)
    environment.update(stand_in.environment)
    try:
        workdir = bucket / "run"
        with start(workdir, 2, 2, "--config.epochs=3", double=True) as run:
            run.until(lambda: any("epoch 1 of 3" in text for text in run.texts()))
            run.processes[1].send_signal(signal.SIGTERM)
            assert run.statuses() == [128 + signal.SIGTERM] * 2, run.texts()
        assert not stand_in.names(prefix="run/.lock")
        log, said = trained(workdir, 2, 2, "--config.epochs=3", double=True)
    finally:
        for name in stand_in.environment:
            environment.pop(name)
    assert "continuing at step" in said[0]
    assert_same_figures(expected, log, relative=1e-9)
    arrays = [name for name in stand_in.names(prefix="run/checkpoints/18/run/") if "ocdbt.process_1/" in name]
    assert arrays
