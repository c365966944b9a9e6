"""Retrieval on classes never trained, by the commands: Stanford Cars in miniature, two classes of three."""

import dataclasses
import json

import pytest
from miniature_archives import write_cars_combined

from cdml_jax.cli import main as cli
from cdml_jax.data.published.catalogue import SETS


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "cars196", dataclasses.replace(SETS["cars196"], disjoint_classes=2))
    write_cars_combined(tmp_path / "cars", times=4)
    values = {
        "source": f"cars196:{tmp_path / 'cars'}",
        "data.data_dir": tmp_path / "cache",
        "data.class_disjoint": True,
        "data.num_threads": 0,
        "image.image_size": 16,
        "model.name": "tiny",
        "model.weights": "",
        "epochs": 1,
        "warmup_epochs": 0,
        "batch_size": 8,
    }
    return ["--config=demo", *(f"--config.{key}={value}" for key, value in values.items())]


def test_what_is_tested_is_the_embedding(arguments, tmp_path, capfd):
    run = f"--workdir={tmp_path / 'run'}"
    assert cli.main(["train", *arguments, run]) == 0
    assert "2 classes, images: 12 train, 8 test" in capfd.readouterr().out
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert len(stored["split_checksum"]) == 64
    assert cli.main(["evaluate", run, "--split=test"]) == 0
    *_, last, following = capfd.readouterr().out.splitlines()
    assert following.startswith("Next: cdml predict ")
    # Eight images of one class: whatever is retrieved is right.
    assert last.startswith("test, 1 classes never trained, features: Recall@1 100.00%")


def test_a_table_of_test_accuracy_is_refused(arguments, tmp_path, capfd):
    share = "--config.data.validation_fraction=0.2"
    assert cli.main(["reproduce", *arguments, share, f"--workdir={tmp_path / 'run'}"]) == 2
    assert "data.class_disjoint: no test image is of a class that is trained" in capfd.readouterr().err
