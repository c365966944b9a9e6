"""docs/extending.md is true: each of its examples runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import cdml_jax
from cdml_jax.models import NETWORKS

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
    cdml(photographs, "train", "--config=own_images", source, costs, *SMALL, "--workdir=costs")
    method = "--config.method=confident"
    cdml(photographs, "train", "--config=confident.py", method, source, *SMALL, "--workdir=terms")
    log = (photographs / "terms" / "metrics.jsonl").read_text()
    assert '"entropy_loss"' in log


def test_a_network_is_one_file(monkeypatch):
    monkeypatch.setattr("cdml_jax.models.NETWORKS", NETWORKS)
    names = {}
    try:
        exec(example("A network", "python")[0], names)
        logits, embeddings = names["network"](jnp.ones((2, 32, 32, 3)), train=False)
    finally:
        NETWORKS.pop("two", None)
    assert logits.shape == (2, 5)
    np.testing.assert_allclose(jnp.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_arrays_are_a_data_set():
    names = {}
    exec(example("A data set", "python")[0], names)
    changes = {"image.image_size": 16, "data.num_threads": 0}
    settings = cdml_jax.settings("own_images", epochs=1, warmup_epochs=0, batch_size=8, **changes)
    run = cdml_jax.train(settings, names["dataset"], method="baseline")
    assert run.class_names == ("crow", "raven", "wren")
    assert run(np.zeros((1, 16, 16, 3), np.uint8)).logits.shape == (1, 3)


def test_a_launcher_prints_a_command_for_each_machine(tmp_path):
    (tmp_path / "common.sh").write_text((ROOT / "launch/common.sh").read_text())
    (tmp_path / "ssh.sh").write_text(example("A launcher", "bash")[0])
    done = subprocess.run(
        ["bash", str(tmp_path / "ssh.sh"), "train", "--config=demo", "--workdir=/shared/run"],
        env=os.environ | {"CDML_HOSTS": "first second", "DRY_RUN": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 2
    assert lines[0].startswith(
        "ssh first env CDML_COORDINATOR=first:9876 CDML_NUM_PROCESSES=2 CDML_PROCESS_ID=0"
    )
    assert lines[1].endswith("CDML_PROCESS_ID=1 cdml train --config=demo --workdir=/shared/run")


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
