"""Results are grouped once: in the titles' order, by seed, paired with the baseline."""

import numpy as np
import pytest

from cdml_jax.data.classes import Classes
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate

CLASSES = Classes(("wren", "tit"))
TITLES = {"baseline": "Baseline", "weighted_softmax": "WS", "cdml": "CDML"}


def make(method, seed, right=3):
    counts = np.array([[right, 1], [0, 4]])
    return RunResult(method, seed, 10, 1.0, counts.T.copy(), counts)


def test_methods_stand_in_the_titles_order_and_seeds_ascend():
    results = [make("odd", 0), make("cdml", 2), make("baseline", 1), make("cdml", 0), make("new", 1)]
    table = tabulate(results, CLASSES, titles=TITLES)
    assert dict(table.titles) == {"baseline": "Baseline", "cdml": "CDML", "odd": "odd", "new": "new"}
    assert list(table.titles) == list(table.runs) == ["baseline", "cdml", "odd", "new"]
    assert list(table.runs["cdml"]) == [0, 2]
    assert [(result.method, result.seed) for result in table.results] == [
        ("baseline", 1),
        ("cdml", 0),
        ("cdml", 2),
        ("odd", 0),
        ("new", 1),
    ]


def test_pairs_are_of_common_seeds():
    results = [make("cdml", seed, right=3 + seed) for seed in (0, 1, 2)] + [
        make("baseline", s) for s in (2, 1)
    ]
    pairs = tabulate(results, CLASSES).pairs("cdml")
    assert {
        seed: (ours.method, ours.seed, theirs.method, theirs.seed) for seed, (ours, theirs) in pairs.items()
    } == {seed: ("cdml", seed, "baseline", seed) for seed in (1, 2)}


def test_the_baseline_may_be_another_or_missing():
    results = [make("cdml", 0), make("odd", 0)]
    table = tabulate(results, CLASSES, titles=TITLES)
    assert not table.has_baseline
    assert table.compared == {}
    assert table.pairs("cdml") == {}
    table = tabulate(results, CLASSES, titles=TITLES, baseline="odd")
    assert table.compared == {"cdml": "CDML"}
    assert list(table.pairs("cdml")) == [0]


def test_counts_are_the_seeds_added():
    table = tabulate([make("cdml", 0, right=3), make("cdml", 1, right=7)], CLASSES)
    np.testing.assert_array_equal(table.counts("cdml"), [[10, 2], [0, 8]])
    np.testing.assert_array_equal(table.counts("cdml", "validation"), [[10, 0], [2, 8]])


def test_what_cannot_be_one_table_is_refused():
    with pytest.raises(ValueError, match="two results for seed 1"):
        tabulate([make("cdml", 1), make("cdml", 1)], CLASSES)
    with pytest.raises(ValueError, match="counts of 2 classes, not of the 3 that are named"):
        tabulate([make("cdml", 1)], Classes(("wren", "tit", "owl")))
