"""The page on files of a run, executed."""

import re
from pathlib import Path

import numpy as np

from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult, save

PAGE = Path(__file__).parents[2] / "docs/results-files.md"


def test_the_block_finds_the_images_that_are_called_wrongly(tmp_path):
    said = Predictions(
        ("crow/0.png", "crow/1.png", "owl/0.png"),
        np.array([0, 0, 1]),
        np.array([[0, 1], [1, 0], [1, 0]]),
        np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]),
        np.array([0.9, 0.4, 0.7]),
    )
    counts = np.array([[1, 1], [0, 1]])
    path = save(RunResult("cdml", 0, 1, 1.0, counts, counts, test=said), tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    after = {}
    exec(code.replace("runs/demo-reproduce/results/cdml-seed0.npz", str(path)), after)
    assert after["wrong"] == ["crow/1.png"]


def test_the_members_are_described():
    members = {f"validation_{name}" for name in Predictions.__dataclass_fields__ if name != "names"}
    assert members | {"validation_counts", "test_counts", "record"} <= set(
        re.findall(r"`(\w+)`", PAGE.read_text())
    )
