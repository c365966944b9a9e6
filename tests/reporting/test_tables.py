"""Intervals against scipy's own; the table's text; sentences that say no more than the interval."""

import math

import numpy as np
import pytest
from scipy import stats

from cdml_jax.reporting import paper
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.tables import compare, markdown_table, methods_table, paired_interval, verdict

TITLES = {"baseline": "baseline", "weighted_softmax": "weighted softmax", "cdml": "CDML"}


def run(row, seed, right, *, steps=300):
    """Of 100 + 100 test images, `right` + 100 are called rightly."""
    counts = np.array([[right, 100 - right], [0, 100]])
    return RunResult(row, seed, steps, 1.0, np.eye(2, dtype=int), counts)


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
    with pytest.raises(ValueError, match="between 0 and 1"):
        paired_interval([1.0, 2.0], 95)


def test_compare_pairs_by_seed_whatever_the_order():
    results = [run("cdml", 1, 90), run("baseline", 0, 60), run("cdml", 0, 62), run("baseline", 1, 84)]
    comparison = compare(results, "cdml")
    assert comparison.seeds == (0, 1)
    assert comparison[2:] == pytest.approx(paired_interval([1.0, 3.0]))


def test_the_table_to_the_letter():
    results = [run("cdml", 0, 62), run("cdml", 1, 66), run("cdml", 2, 70)]
    results += [run("baseline", 0, 60), run("baseline", 1, 62), run("baseline", 2, 64)]
    text = methods_table(results, row_titles=TITLES, paper=paper.TABLE_2)
    # Differences 1, 2, 3 points.
    assert text == (
        "| method   | seeds |      top-1 % |    difference [95 %] | class error % | steps |       paper % |\n"
        "|:---------|------:|-------------:|---------------------:|--------------:|------:|--------------:|\n"
        "| baseline |     3 | 81.00 ± 1.00 |                    – |  19.00 ± 1.00 |   300 |         82.33 |\n"
        "| CDML     |     3 | 83.00 ± 2.00 | +2.00 [-0.48, +4.48] |  17.00 ± 2.00 |   300 | 84.88 (+2.55) |\n"
        "\n"
        "Test images; mean ± standard deviation over seeds. Difference to the baseline in points,\n"
        "paired by seed, with Student's 95 % interval, not corrected for the number of rows.\n"
    )
    assert "paper" not in methods_table(results, row_titles=TITLES)


def test_the_table_says_when_seeds_or_steps_differ():
    results = [
        run("baseline", 0, 60),
        run("baseline", 1, 62),
        run("cdml", 1, 64, steps=600),
        run("odd", 5, 10),
    ]
    text = methods_table(results, row_titles=TITLES)
    assert "+1.00 (one seed)" in text
    assert "CDML: its seeds are not the baseline's; seeds in both: 1." in text
    assert "odd: its seeds are not the baseline's; seeds in both: none." in text
    assert "no common seed" in text
    assert "did not all take the same number of steps" in text


def test_the_table_without_a_baseline():
    text = methods_table([run("cdml", 0, 64)], row_titles=TITLES, paper={"cdml": 84.88})
    assert "| CDML   |     1 |   82.00 |                 – |         18.00 |   300 |   84.88 |" in text


def test_the_table_lines_up():
    table = markdown_table(["a|b", "n"], [["x", "1"], ["longer\nname", "12345"]], "lr")
    assert len({len(line) for line in table.splitlines()}) == 1
    assert "a\\|b" in table


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([(60, 62), (62, 66), (64, 70)], "+2.00 points against the baseline, 95 % interval [-0.48, +4.48]"),
        ([(60, 62), (62, 66), (64, 70)], "over 3 seeds: not clear of zero, so no difference is shown"),
        ([(60, 70), (62, 74), (64, 75)], "clear of zero, better"),
        ([(70, 60), (74, 62), (75, 64)], "clear of zero, worse"),
        ([(60, 70)], "one seed: no interval"),
        ([(60, 62), (62, 64)], "no spread, so no interval"),
        ([], "no seed in common"),
    ],
)
def test_the_verdict_says_what_the_interval_shows(pairs, says):
    results = [run("baseline", 99, 50), run("cdml", 98, 50)]
    for seed, (theirs, ours) in enumerate(pairs):
        results += [run("baseline", seed, theirs), run("cdml", seed, ours)]
    sentence = verdict(compare(results, "cdml"), "CDML")
    assert says in sentence
    assert "significant" not in sentence


def test_the_papers_tables():
    assert paper.TABLE_2["cdml"] - paper.TABLE_2["baseline"] == pytest.approx(2.55)
    text = paper.paper_table_1(83.456)
    lines = text.splitlines()
    assert len(lines) == 2 + 8
    assert lines[2].split("|")[1:4] == [
        " CDML           ",
        "                        84.88 ",
        "         83.46 ",
    ]
    assert [line.split("|")[3].strip() for line in lines[3:]] == ["–"] * 7
    assert "not comparable" in paper.paper_table_1(83.0, dataset_name="grocery")
    assert "not comparable" not in text + paper.paper_table_1(None, dataset_name="grocery")
