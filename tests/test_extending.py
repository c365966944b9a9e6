"""docs/extending.md is true: each of its examples runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import cdml_jax

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
SMALL = [
    "--config.epochs=2",
    "--config.warmup_epochs=1",
    "--config.batch_size=8",
    "--config.image.image_size=16",
    "--config.reproduce.seeds=1",
]


def example(section, language):
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture
def photographs(tmp_path):
    """Three classes of twelve noisy pictures, each of its own grey."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("crow", "raven", "wren")):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for k in range(12):
            picture = np.clip(rng.normal(60 + 50 * number, 30, (20, 20, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "birds" / name / f"{k}.png"), picture)
    return tmp_path


def cdml(folder, *arguments):
    environment = os.environ | {"CDML_DATA_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cdml_jax", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.program
def test_a_method_of_ones_own_trains_and_stands_in_the_table(photographs):
    (photographs / "rare_and_hard.py").write_text(example("A method of your own", "python")[0])
    command = ["--config=rare_and_hard.py", "--config.source=folder:birds", *SMALL]
    printed = cdml(photographs, "reproduce", *command, "--workdir=table")
    assert re.search(r"^\| Rare and hard classes +\|", printed, re.M)
    run = "table/runs/rare_and_hard-seed0"
    (photographs / "rare_and_hard.py").write_text("raise SystemExit('must not be run')")
    assert "Rare and hard classes" in (photographs / run / "config.json").read_text()
    assert "crow" in cdml(photographs, "predict", f"--workdir={run}", "birds/crow/0.png")
    assert "top-1" in cdml(photographs, "evaluate", f"--workdir={run}")


@pytest.mark.program
def test_costs_and_terms_of_ones_own_train(photographs):
    section = "A cost of your own"
    (photographs / "costs.csv").write_text(example(section, "csv")[0])
    (photographs / "confident.py").write_text(example(section, "python")[0])
    source = "--config.source=folder:birds"
    costs = "--config.confusion.source=file:costs.csv"
    cdml(photographs, "train", "--config=own_images_scratch", source, costs, *SMALL, "--workdir=costs")
    method = "--config.method=confident"
    cdml(photographs, "train", "--config=confident.py", method, source, *SMALL, "--workdir=terms")
    log = (photographs / "terms" / "metrics.jsonl").read_text()
    assert '"entropy_loss"' in log


def test_a_network_is_one_file_and_its_name_in_two_lines(tmp_path):
    package = tmp_path / "cdml_jax"
    shutil.copytree(ROOT / "cdml_jax", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "models/two.py").write_text(example("A network", "python")[0])
    listed = package / "models/__init__.py"
    text = listed.read_text()
    for line in ("from cdml_jax.models import efficientnet_lite", "_FAMILIES = (small_resnet"):
        assert text.count(line) == 1
        text = text.replace(line, f"{line}, two")
    listed.write_text(text)
    program = (
        "import jax.numpy as jnp; from flax import nnx; from cdml_jax.models import Spec, build;"
        "network = build('two', Spec(num_classes=5), rngs=nnx.Rngs(0));"
        "logits, embeddings = network(jnp.ones((2, 32, 32, 3)), train=False);"
        "print(logits.shape, jnp.linalg.norm(embeddings, axis=1).round(4).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(2, 5) [1.0, 1.0]\n", done.stderr


def test_arrays_are_a_data_set():
    names = {}
    exec(example("A data set", "python")[0], names)
    changes = {"image.image_size": 16, "data.num_threads": 0}
    settings = cdml_jax.settings("own_images_scratch", epochs=1, warmup_epochs=0, batch_size=8, **changes)
    run = cdml_jax.train(settings, names["dataset"], method="baseline")
    assert run.class_names == ("crow", "raven", "wren")
    assert run(np.zeros((1, 16, 16, 3), np.uint8)).logits.shape == (1, 3)


def launched(tmp_path, *arguments, **variables):
    (tmp_path / "common.sh").write_text((ROOT / "launch/common.sh").read_text())
    (tmp_path / "ssh.sh").write_text(example("A launcher", "bash")[0])
    return subprocess.run(
        ["bash", str(tmp_path / "ssh.sh"), *arguments],
        env=os.environ | {"CDML_HOSTS": "first second"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_launcher_prints_a_command_for_each_machine(tmp_path):
    done = launched(tmp_path, "train", "--config=demo", "--workdir=/shared/run", DRY_RUN="1")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert lines == [
        f"ssh {name} 'env CDML_COORDINATOR=first:9876 CDML_NUM_PROCESSES=2 CDML_PROCESS_ID={index} "
        "cdml train --config=demo --workdir=/shared/run'"
        for index, name in enumerate(("first", "second"))
    ]


def test_a_launcher_keeps_words_whole_and_says_that_a_machine_failed(tmp_path):
    """The machine's shell is this one's; its `cdml` prints its arguments and fails on the second machine."""
    for name, text in {
        "ssh": 'shift; exec bash -c "$*"',
        "cdml": 'printf "<%s>" "$@"; exit $((3 * CDML_PROCESS_ID))',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    words = ("train", "--workdir=/run", "--config.source=folder:/my dir", "--config.image.scale=(0.5, 1)")
    done = launched(tmp_path, *words, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 3
    assert done.stdout == 2 * "".join(f"<{word}>" for word in words)


@pytest.mark.program
def test_the_example_with_arrays_learns():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/arrays.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(re.search(r"accuracy (\d\.\d+)", done.stdout)[1]) > 0.5
