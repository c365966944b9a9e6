"""What the benchmarks time beside other libraries is what they say it is."""

import importlib
import json
import math
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_sides_take_turns_and_slow_ones_are_called_once(load):
    called = []

    def side(name, seconds):
        return lambda: (called.append(name), time.sleep(seconds))

    sides = {"fast": side("fast", 0.02), "slow": side("slow", 0.3)}
    seconds = load("side_by_side").alternate(sides, repeats=3, most=0.2, turn=0.01)
    assert called.count("slow") == 1
    assert len(seconds["slow"]) == 1
    assert len(seconds["fast"]) == 3
    assert min(seconds["fast"]) >= 0.02 <= 0.3 <= seconds["slow"][0]


def test_a_ratio_is_of_the_same_turn_and_counts_how_many_times_ours(load):
    found = load("side_by_side").compare([2.0, 40.0, 9.0], [1.0, 10.0, 3.0])
    assert found["ratio"] == 3
    assert found["best_ratio"] == 2
    assert found["turns"] == 3


def test_a_peer_measured_once_has_its_ratio(load):
    assert load("side_by_side").compare([8.0], [2.0, 1.0])["ratio_quartiles"] == [4, 4]


def test_the_spread_of_two_turns_stays_between_them(load):
    assert load("side_by_side").compare([2.0, 90.0], [1.0, 1.0])["ratio_quartiles"] == [2, 90]


def test_the_cube_is_the_mean_over_all_triplets(load):
    term = load("triplet_term")
    embeddings, labels = term.batch_of(12)
    losses, valid = term.cube(jnp.asarray(embeddings), jnp.asarray(labels))
    total, number, wide = 0.0, 0, embeddings.astype(np.float64)
    for a, p, n in np.ndindex(12, 12, 12):
        if a != p and labels[a] == labels[p] != labels[n]:
            apart = np.sum((wide[a] - wide[p]) ** 2) - np.sum((wide[a] - wide[n]) ** 2)
            total, number = total + max(0, apart + term.MARGIN), number + 1
    assert int(valid.sum()) == number
    assert math.isclose(float(jnp.where(valid, losses, 0).sum()), total, rel_tol=1e-5)


def test_a_peer_that_is_not_installed_is_named_and_the_counts_agree(load, monkeypatch):
    pytest.importorskip("sklearn")
    counts = load("confusion_counts")

    def torch_sides(*_):
        raise ImportError(name="torchmetrics")

    monkeypatch.setattr(counts, "torch_sides", torch_sides)
    case = counts.measure(5_000, 7, repeats=1, most=5)
    assert case["skipped"] == {"torch": "torchmetrics is not installed"}
    assert {"new: ours", "added: ours", "new: scikit-learn"} < case["sides"].keys()


def test_the_page_names_what_was_left_out_and_what_was_measured_once(load):
    side = {"ms": 1.5, "ratio": 1.0, "ratio_quartiles": [0.9, 1.1], "best_ratio": 1.0, "turns": 5}
    once = {"ms": 9e3, "ratio": 6e3, "ratio_quartiles": [6e3, 6e3], "best_ratio": 6e3, "turns": 1}
    machine = {"device": "cpu", "machine": "x86_64", "cores": 2, "load": [3.5, 1, 1], "jax": "0"}
    cases = [
        {
            "batch": 256,
            "sides": {"ours": side | {"bytes": 2e6}, "peer": once | {"bytes": None}},
            "skipped": {},
        },
        {"batch": 512, "sides": {"ours": side | {"bytes": 8e6}}, "skipped": {"peer": "took 9 s"}},
    ]
    result = {"size": 128, "images_per_class": 4, **machine, "cases": json.loads(json.dumps(cases))}
    text = load("write_page").triplet_term([result])
    assert "| ours | 1.5 | 1.5 |" in text
    assert "| peer | 9,000, **6,000** (once) |  |" in text
    assert "| ours | 2.0 | 8.0 |" in text
    assert '- At B = 512, "peer" was left out (took 9 s).' in text
    assert "the load average was 3.5" in text
