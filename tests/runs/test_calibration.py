"""The temperature is the one under which the labels are likeliest; a stale or edited one is not used."""

import json

import numpy as np
import pytest
from etils.epath import Path
from scipy.optimize import minimize_scalar

from cdml_jax.runs import calibration
from cdml_jax.runs.calibration import LIMITS, Calibration, fit_temperature, mean_loss


@pytest.fixture(scope="module")
def logits():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 400)
    return (4 * (rng.normal(0, 1, (400, 5)) + np.eye(5)[labels])).astype(np.float32), labels


def test_it_is_where_a_search_finds_the_lowest_loss(logits, monkeypatch):
    values, labels = logits

    def loss(temperature):
        z = values.astype(float) / temperature
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(400), labels])

    expected = minimize_scalar(loss, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-8}).x
    assert fit_temperature(values, labels) == pytest.approx(expected, rel=1e-4)
    assert expected > 2
    assert mean_loss(values, labels, expected) == pytest.approx(loss(expected))
    monkeypatch.setattr(calibration, "_CHUNK", 35)  # parts of seven rows
    assert fit_temperature(values, labels) == pytest.approx(expected, rel=1e-4)
    assert mean_loss(values, labels, expected) == pytest.approx(loss(expected))


def test_answers_that_are_all_right_or_all_wrong_stand_at_a_limit():
    values = np.eye(3) * 2
    assert fit_temperature(values, np.arange(3)) == LIMITS[0]
    assert fit_temperature(values, (np.arange(3) + 1) % 3) == LIMITS[1]


def test_what_is_kept_is_used_for_its_network_alone(tmp_path, capsys):
    folder = Path(tmp_path)
    found = Calibration(1.7, 6, "validation", 50, 1.0, 0.9, 0.1, 0.02)
    assert calibration.read(folder, 6, best=False) is None
    calibration.write(folder, found, best=False)
    calibration.write(folder, Calibration(2.5, 4, "validation", 50, 1.0, 0.9, 0.1, 0.02), best=True)
    assert calibration.read(folder, 6, best=False) == found
    assert calibration.read(folder, 4, best=True).temperature == 2.5
    assert not capsys.readouterr().err
    assert calibration.read(folder, 8, best=False) is None
    assert "of epoch 6, the network of epoch 8" in capsys.readouterr().err
    stored = json.loads((folder / calibration.FILE).read_text())
    stored["last"]["temperature"] = 1.0
    (folder / calibration.FILE).write_text(json.dumps(stored))
    assert calibration.read(folder, 6, best=False) is None
    assert "edited or damaged" in capsys.readouterr().err
