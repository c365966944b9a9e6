"""Intervals over images, Holm's correction and the errors of pairs, computed another way."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from cdml_jax.data.classes import Classes
from cdml_jax.reporting.further import error_of_pairs, further_table, holm, interval_over_images
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate

CLASSES = Classes(("wren", "tit", "owl"))


def run(method, seed, rng, errors, minutes=2.0):
    labels = np.repeat([0, 1, 2], 40)
    called = np.where(rng.random(labels.size) < errors, (labels + 1) % 3, labels)
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (labels, called), 1)
    probabilities = np.ones((labels.size, 1), np.float32)
    seen = Predictions(
        tuple(map(str, range(labels.size))), labels, called[:, None], probabilities, probabilities[:, 0]
    )
    return RunResult(method, seed, 10, 60 * minutes, counts, counts, test=seen)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    errors = {"baseline": 0.3, "cdml": 0.2, "focal": 0.3}
    results = [run(method, seed, rng, rate) for method, rate in errors.items() for seed in range(4)]
    return tabulate(results, CLASSES)


def cells(text):
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_each_method_has_both_intervals(table):
    found = cells(further_table(table))
    assert found["baseline"][:3] == ["–", "–", "–"]
    pairs = table.pairs("cdml").values()
    ours, theirs = np.array([[np.trace(r.test_counts) / 120 for r in pair] for pair in pairs]).T
    p_cdml = stats.ttest_rel(ours, theirs).pvalue
    assert float(found["cdml"][0]) == pytest.approx(100 * (ours - theirs).mean(), abs=0.005)
    assert found["cdml"][1] == f"{2 * p_cdml:.3f}"  # the smaller of two
    low, high = (float(end) for end in found["cdml"][2].strip("[]").split(","))
    gains = np.mean(
        [
            (a.test.top_classes[:, 0] == a.test.labels) * 1.0 - (b.test.top_classes[:, 0] == b.test.labels)
            for a, b in pairs
        ],
        axis=0,
    )
    rng = np.random.default_rng(5)
    drawn = [100 * rng.choice(gains, gains.size).mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.5)
    assert found["cdml"][4] == "2.0"


def test_holm_is_the_least_level_at_which_the_procedure_rejects():
    p_values = [0.001, 0.02, 0.013, 0.4, math.nan, 0.02]
    found = holm(p_values)

    def rejected(level):
        known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
        names = set()
        for rank, (p, place) in enumerate(known):
            if p > level / (len(known) - rank):
                break
            names.add(place)
        return names

    for place, corrected in enumerate(found):
        if math.isnan(p_values[place]):
            assert math.isnan(corrected)
            continue
        assert place in rejected(corrected + 1e-9)
        assert place not in rejected(corrected - 1e-9)


def test_images_that_are_all_alike_have_no_width():
    assert interval_over_images(np.full(30, 0.25)) == (25.0, 25.0)


def test_the_error_of_pairs_is_of_their_first_classes():
    counts = np.array([[5, 4, 1], [2, 8, 0], [0, 0, 9]])
    result = RunResult("cdml", 0, 1, 1.0, counts, counts)
    assert error_of_pairs(result, [(0, 1), (1, 0)]) == pytest.approx(6 / 20)
    assert math.isnan(error_of_pairs(result, []))


def test_what_was_not_kept_is_a_dash(table):
    bare = [RunResult(r.method, r.seed, 1, 1.0, r.validation_counts, r.test_counts) for r in table.results]
    found = cells(further_table(tabulate(bare, CLASSES)))
    assert found["cdml"][2] == "–"
    assert further_table(tabulate([r for r in bare if r.method == "cdml"], CLASSES)) == ""
    few = cells(further_table(tabulate([r for r in bare if r.seed < 2], CLASSES)))
    assert few["cdml"][1] == "–"


def test_work_stands_beside_what_it_gives(table):
    work = {"baseline": (1, 2.0e9), "cdml": (4, 6.9e9), "focal": (1, math.nan)}
    results = [
        dataclasses.replace(r, updates=work[r.method][0], operations=work[r.method][1]) for r in table.results
    ]
    found = cells(further_table(tabulate(results, CLASSES)))
    assert [found[method][5:] for method in work] == [["1", "1.00"], ["4", "3.45"], ["1", "–"]]


def test_work_that_was_not_counted_is_a_dash(table):
    found = cells(further_table(table))
    assert [found[method][5:] for method in found if method in table.titles] == [["–", "–"]] * 3
