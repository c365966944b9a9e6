"""The command line: what it refuses, in one line, and whole runs of the real command."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from photographs import write_photographs

from cdml_jax.cli import main as cli
from cdml_jax.distributed import processes
from cdml_jax.errors import UserError
from cdml_jax.reporting import results

SMALL = [
    "--config.image.image_size=16",
    "--config.epochs=3",
    "--config.warmup_epochs=1",
    "--config.batch_size=8",
    "--config.data.num_threads=0",
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Three classes in two families, nested unevenly, as a person's folder is."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 14, np.random.default_rng(0))
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return os.environ | {"CDML_DATA_DIR": str(tmp_path_factory.mktemp("data")), "JAX_PLATFORMS": "cpu"}


def cdml(*arguments, environment=None):
    return subprocess.run(
        [sys.executable, "-m", "cdml_jax", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "one --config=NAME is needed"),
        (["train", "--config=no_such"], "no file no_such; shipped ones are"),
        (["train", "--config=demo", "--config.batchsize=3"], "did you mean --config.batch_size?"),
        (["train", "--config=demo", "--config.objective.margn=3"], "did you mean --config.objective.margin?"),
        (["train", "--config=demo", "--config.batch_size=many"], "--config.batch_size: 'many' is not an int"),
        (["train", "--config=demo", "--config.image.flip=maybe"], "'maybe' is not a bool"),
        (["train", "--config=demo", "--config.data=x"], "is a group of keys"),
        (["train", "--config=demo", "--batch=3"], "unknown argument '--batch=3'"),
        (["train", "--config=demo", "--config.batch_size=12"], "choose a multiple of 8"),
        (["train", "--config=demo", "--config.method=cdlm"], "'cdlm' is unknown; did you mean cdml?"),
        (["reproduce", "--config=demo", "--config.reproduce.methods=focl"], "did you mean focal?"),
        (["train", "--config=demo", "--config.objective.mode=rates"], "choose one of rate, one_plus_rate"),
        (["train", "--config=demo", "--config.sampling.composed=1.5"], "must be from 0 to 1"),
        (["train", "--config=demo", "--config.warmup_epochs=99"], "exceeds epochs"),
        (
            ["train", "--config=demo", "--config.model.batch_norm_devices=3"],
            "8; choose a divisor",
        ),
        (
            [
                "train",
                "--config=demo",
                "--config.model.batch_norm_devices=2",
                "--config.model.freeze_batch_norm=1",
            ],
            "model.batch_norm_devices: 2 has no effect with model.freeze_batch_norm",
        ),
        (["train", "--config=demo", "--config.model.name=vgg"], "model.name: 'vgg' is unknown"),
        (["train", "--config=demo", "--config.confusion.source=holdout"], "data.holdout_fraction"),
        (["train", "--config=demo", "--config.source=folder:/no/such"], "/no/such"),
        (["train", "--config=demo", "--config.source=synthetic_birds/x"], "choose one of demo"),
        (["reproduce", "--config=demo", "--config.reproduce.seeds=0"], "at least 1"),
        (["evaluate", "--workdir=/no/such"], "holds no run"),
    ],
)
def test_a_mistake_is_answered_in_one_line(capsys, tmp_path, arguments, message):
    if arguments[0] != "evaluate":
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("cdml: ")
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_help_names_the_commands_and_the_configurations(capsys):
    for arguments, words in (["--help"], "reproduce"), (["train", "--help"], "--config.KEY=VALUE"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 0
        assert words in capsys.readouterr().out


def test_a_configuration_that_cannot_be_loaded_is_named(tmp_path, capsys):
    for text in (
        "def get_config(:\n",
        "import no_such_module\n",
        "x = 1\n",
        "def get_config(): return 1/0\n",
    ):
        (tmp_path / "mine.py").write_text(text)
        assert cli.main(["train", f"--config={tmp_path / 'mine.py'}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"cdml: --config: {tmp_path / 'mine.py'} ")
        assert said.count("\n") == 1


@pytest.mark.program
def test_train_stop_continue_evaluate(photographs, environment, tmp_path):
    """Ctrl-C in the middle, the same command again, the figures and the picture; a changed configuration."""
    run = tmp_path / "run"
    command = [
        "train",
        "--config=own_images_scratch",
        f"--config.source=folder:{photographs}",
        f"--workdir={run}",
        *SMALL,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "cdml_jax", *command, "--config.epochs=400"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size):
        assert time.monotonic() < deadline, "no epoch was logged"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues there" in error
    assert "Traceback" not in error

    refused = cdml(*command, "--config.epochs=400", "--config.seed=1", environment=environment)
    assert refused.returncode == 2
    assert "seed (0 there, 1 here)" in refused.stderr

    second = tmp_path / "second"
    command[3] = f"--workdir={second}"
    trained = cdml(*command, environment=environment)
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"validation accuracy [\d.]+% \(\d+ of \d+ images\)", trained.stdout)
    epochs = [json.loads(line)["epoch"] for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]
    assert list((second / "tensorboard").iterdir())

    evaluated = cdml("evaluate", f"--workdir={second}", "--split=test", environment=environment)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "test: top-1" in evaluated.stdout
    assert "right family" in evaluated.stdout
    assert "embeddings (projection): Recall@1" in evaluated.stdout
    assert cv2.imread(str(second / "confusion_test.png")).std() > 5
    assert trained.stdout.splitlines()[-1] == f"Next: cdml evaluate --workdir={second}"
    assert evaluated.stdout.splitlines()[-1] == f"Next: cdml predict --workdir={second} IMAGE"


@pytest.mark.program
def test_reproduce_prints_the_table_and_does_not_train_twice(photographs, environment, tmp_path):
    command = [
        "reproduce",
        "--config=own_images_scratch",
        f"--config.source=folder:{photographs}",
        f"--workdir={tmp_path}",
        "--config.reproduce.seeds=2",
        *SMALL,
    ]
    first = cdml(*command, environment=environment)
    assert first.returncode == 0, first.stderr
    for title in ("Baseline", "Weighted softmax", "Confusion driven metric learning", "CDML"):
        assert f"| {title} " in first.stdout
    *paths, last = first.stdout.splitlines()[-8:]
    for path in paths:
        assert Path(path).is_file()
    run = tmp_path / "runs/cdml-seed0"
    assert last == f"Next: cdml predict --workdir={run} IMAGE"
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {(row["method"], row["seed"]) for row in rows} == {
        (method, seed)
        for method in ("baseline", "weighted_softmax", "confusion_driven", "cdml")
        for seed in (0, 1)
    }
    assert len({row["steps"] for row in rows}) == 1
    assert {row["updates"] for row in rows} == {1}
    assert len({row["operations"] for row in rows}) == 1  # one compiled step serves the paper's methods
    assert rows[0]["operations"] > 1e6
    assert "NMI % |" in first.stdout
    kinds = {"baseline": "features", "weighted_softmax": "features"}
    assert all(row["embedding"] == kinds.get(row["method"], "projection") for row in rows)
    assert all(
        0 <= row[key] <= 1 + 1e-9 for row in rows for key in ("test_map_at_r", "test_recall_at_1", "test_nmi")
    )

    kept = {(result.method, result.seed): result for result in results.load(tmp_path / "results")}
    images = sorted(path.relative_to(photographs).as_posix() for path in photographs.rglob("*.png"))
    for (method, seed), result in kept.items():
        for split in ("validation", "test"):
            said, counts = getattr(result, split), np.zeros((3, 3), int)
            np.add.at(counts, (said.labels, said.top_classes[:, 0]), 1)
            np.testing.assert_array_equal(counts, getattr(result, f"{split}_counts"))
            assert set(said.names) < set(images)
            assert said.names == getattr(kept["baseline", 0], split).names
            assert said.embeddings is None
        assert (result.provenance.settings["method"], result.provenance.settings["seed"]) == (method, seed)
        assert len(list((tmp_path / f"runs/{method}-seed{seed}/checkpoints").iterdir())) == 1

    # Every run of the table can be used.
    by_name = {(row["method"], row["seed"]): row for row in rows}
    evaluated = cdml("evaluate", f"--workdir={run}", "--split=test", environment=environment)
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"test: top-1 {by_name['cdml', 0]['test_accuracy']:.2%}" in evaluated.stdout
    assert evaluated.stdout.splitlines()[-1] == last
    said = kept["cdml", 0].test
    predicted = cdml(
        "predict",
        f"--workdir={run}",
        "--json",
        *(photographs / name for name in said.names),
        environment=environment,
    )
    assert predicted.returncode == 0, predicted.stderr
    names = json.loads((run / "classes.json").read_text())["class_names"]
    for line, top, probabilities in zip(
        predicted.stdout.splitlines(), said.top_classes, said.top_probabilities, strict=True
    ):
        likeliest = json.loads(line)["classes"][0]
        assert likeliest["name"] == names[top[0]]
        assert likeliest["probability"] == pytest.approx(probabilities[0], abs=1e-4)

    # What is missing comes again from the run's checkpoint, and is the same.
    (tmp_path / "results/cdml-seed1.npz").unlink()
    again = cdml(*command, environment=environment)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": validation ") == 1
    assert "CDML, seed 1: continuing at step " in again.stdout
    assert "CDML, seed 1: validation " in again.stdout
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CDML_COORDINATOR": "127.0.0.1:1"}, "CDML_NUM_PROCESSES is not"),
        (
            {"CDML_COORDINATOR": "127.0.0.1:1", "CDML_NUM_PROCESSES": "two", "CDML_PROCESS_ID": "0"},
            "'two' is not a number",
        ),
        ({"CDML_DISTRIBUTED": "yes"}, "set auto, or leave it out"),
    ],
)
def test_half_a_cluster_is_refused(monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        processes.connect()
