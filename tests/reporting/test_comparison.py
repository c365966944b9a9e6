"""Intervals against scipy's own; sentences that say no more than the interval."""

import math

import numpy as np
import pytest
from scipy import stats

from cdml_jax.data.classes import Classes
from cdml_jax.reporting.comparison import compare, paired_interval, verdict
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate


def run(method, seed, right, *, steps=300):
    """Of 100 + 100 test images, `right` + 100 are called rightly."""
    counts = np.array([[right, 100 - right], [0, 100]])
    return RunResult(method, seed, steps, 1.0, np.eye(2, dtype=int), counts)


def table(results):
    return tabulate(results, Classes(("wren", "tit")))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_paired_interval_is_scipys(confidence):
    ours, theirs = np.array([0.81, 0.84, 0.79, 0.83]), np.array([0.80, 0.81, 0.80, 0.79])
    mean, low, high = paired_interval(ours - theirs, confidence)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(confidence)
    assert mean == pytest.approx((ours - theirs).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_paired_interval_by_hand():
    # t for 2 degrees of freedom and 95 % is 4.302653; sd is 1.
    assert paired_interval([1.0, 2.0, 3.0]) == pytest.approx(
        (2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5)
    )


def test_few_pairs_have_no_interval():
    mean, low, high = paired_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(map(math.isnan, paired_interval([])))
    mean, low, high = paired_interval([0.5, 1.5])
    assert mean == 1.0
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="between 0 and 1"):
        paired_interval([1.0, 2.0], 95)


def test_compare_pairs_by_seed_whatever_the_order():
    results = [run("cdml", 1, 90), run("baseline", 0, 60), run("cdml", 0, 62), run("baseline", 1, 84)]
    results += [run("baseline", 2, 50), run("cdml", 2, 50)]
    comparison = compare(table(results), "cdml")
    assert comparison.seeds == (0, 1, 2)
    assert comparison[2:] == pytest.approx(paired_interval([1.0, 3.0, 0.0]))
    assert comparison.no_interval == ""


def test_seeds_without_the_figure_are_left_out():
    results = [
        run(method, seed, 60 + 10 * (method == "cdml") + seed)
        for method in ("baseline", "cdml")
        for seed in range(3)
    ]
    known = {("baseline", 0): 0.5, ("baseline", 1): 0.6, ("cdml", 0): 0.75, ("cdml", 2): 0.9}
    found = compare(
        table(results), "cdml", figure=lambda result: known.get((result.method, result.seed), math.nan)
    )
    assert found.seeds == (0,)
    assert found.mean == pytest.approx(25)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([(60, 62), (62, 66), (64, 70)], "+2.00 points against the baseline, 95 % interval [-0.48, +4.48]"),
        ([(60, 62), (62, 66), (64, 70)], "over 3 seeds: not clear of zero, so no difference is shown"),
        ([(60, 70), (62, 74), (64, 75)], "clear of zero, better"),
        ([(70, 60), (74, 62), (75, 64)], "clear of zero, worse"),
        ([(60, 70)], "one seed: no interval"),
        ([(60, 62), (62, 70)], "+2.50 points against the baseline over 2 seeds: too few for an interval"),
        ([(60, 62), (62, 64)], "too few for an interval, so this shows nothing either way"),
        ([(60, 62), (62, 64), (64, 66)], "no spread, so no interval"),
        ([], "no seed in common"),
    ],
)
def test_the_verdict_says_what_the_interval_shows(pairs, says):
    results = [run("baseline", 99, 50), run("cdml", 98, 50)]
    for seed, (theirs, ours) in enumerate(pairs):
        results += [run("baseline", seed, theirs), run("cdml", seed, ours)]
    sentence = verdict(compare(table(results), "cdml"), "CDML")
    assert says in sentence
    assert "significant" not in sentence
