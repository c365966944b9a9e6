"""What the page says in words: which pair is confused most and on which images, intervals, seeds."""

import math

import numpy as np
import pytest
from scipy import stats

from cdml_jax.data import Classes
from cdml_jax.reporting.page.data import page_data
from cdml_jax.reporting.page.document import write_page
from cdml_jax.reporting.page.shown import Shown, most_confused
from cdml_jax.reporting.page.summary import captions, headline, methods_rows, pairs_note
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate

NAMES = ("wren", "tit", "tern", "gull", "kite")
PER_CLASS = 20


def counts_of(**cells):
    """20 images of each class, called rightly but for some: tern_gull=3."""
    counts = PER_CLASS * np.eye(5, dtype=int)
    for pair, number in cells.items():
        i, j = map(NAMES.index, pair.split("_"))
        counts[i, j] += number
        counts[i, i] -= number
    return counts


def run(method, seed, **cells):
    # Validation: wren, tit and kite, tit are tied; kite, tit has more in the other direction.
    chosen = counts_of(wren_tit=8, kite_tit=8, tit_kite=2, tern_gull=1)
    return RunResult(method, seed, 10, 60.0, chosen, counts_of(**cells))


@pytest.fixture(scope="module")
def shown():
    runs = [run("baseline", s, gull_tern=9 + s % 2, tern_gull=2, wren_tit=3) for s in range(4)]
    runs += [run("cdml", s, gull_tern=9 - s % 3, tern_gull=2, wren_tit=3 + 2 * (s % 2)) for s in range(4)]
    runs += [run("worse", s, gull_tern=14 + s % 2, tern_gull=9, wren_tit=9 + s) for s in range(1, 4)]
    titles = {"baseline": "Baseline", "cdml": "CDML", "worse": "Hard triplets"}
    return Shown("birds", tabulate(runs, Classes(NAMES), titles=titles), "test")


@pytest.fixture(scope="module")
def data(shown):
    return page_data(shown, [], np.zeros(0, int), [], [])


def test_pairs_come_by_share_then_by_the_other_direction():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (9, 9)) + np.diag(rng.integers(1, 4, 9))
    counts[4] = 0  # a class without images
    found = [(pair.true, pair.called) for pair in most_confused(counts, 100)]
    share = [[counts[i, j] / max(1, counts[i].sum()) for j in range(9)] for i in range(9)]
    wrong = [(i, j) for i in range(9) for j in range(9) if i != j and counts[i, j]]
    wrong.sort(key=lambda p: (-share[p[0]][p[1]], -share[p[1]][p[0]], p))
    expected = [p for k, p in enumerate(wrong) if p[::-1] not in wrong[:k]]
    assert found == expected
    assert [(p.true, p.called) for p in most_confused(counts, 4)] == expected[:4]
    assert most_confused(np.eye(3, dtype=int), 4) == []


def test_the_verdict_names_the_pair_of_the_images_shown(shown, data):
    said = headline(shown)
    baseline = sum(result.test_counts for result in shown.table.runs["baseline"].values())
    off = baseline - np.diag(np.diag(baseline))
    i, j = np.unravel_index(off.argmax(), off.shape)
    assert (NAMES[i], NAMES[j]) == ("gull", "tern")
    assert (
        f"Confused most on the test images: gull is called tern by Baseline, {off[i, j]} of 80 times "
        "(20 images in each of 4 seeds)."
    ) in said
    # Cards go by validation images, ties by the other direction.
    pairs = [(NAMES[p["true"]], NAMES[p["called"]]) for p in data["pairs"]]
    assert pairs == [("kite", "tit"), ("wren", "tit"), ("tern", "gull")]
    assert data["worst"] == [i, j]
    assert "ties by the other direction" in pairs_note(shown)
    assert data["pairs"][0]["note"] == "Validation images, which chose it: 32 of 20 × 4 are called so."


def test_a_pair_chosen_by_the_images_shown_says_so(shown):
    runs = [
        RunResult(r.method, r.seed, 10, 60.0, counts_of(kite_tit=3), r.test_counts)
        for r in shown.table.results
    ]
    table = tabulate(runs, Classes(NAMES), titles=shown.table.titles)
    last = page_data(Shown("birds", table, "test"), [], np.zeros(0, int), [], [])["pairs"][-1]
    assert (NAMES[last["true"]], NAMES[last["called"]]) == ("gull", "tern")
    assert "chosen by these same test images" in last["note"]


def test_what_is_clear_of_zero_is_said_either_way(shown):
    said = headline(shown)
    assert said[0].startswith("CDML: ")
    differences = [
        100 * (np.trace(shown.table.runs["worse"][s].test_counts) - np.trace(b.test_counts)) / 100
        for s, b in shown.table.runs["baseline"].items()
        if s in shown.table.runs["worse"]
    ]
    half = stats.t.ppf(0.975, 2) * np.std(differences, ddof=1) / math.sqrt(3)
    mean = np.mean(differences)
    assert mean + half < 0
    assert said[1] == (
        "The other method is clear of zero: Hard triplets "
        f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}] over 3 seeds, worse."
    )
    mine = np.mean([np.trace(shown.table.runs["baseline"][s].test_counts) for s in (1, 2, 3)])
    words = " ".join(captions(shown))
    assert "Hard triplets has only 3 of the baseline's 4 seeds (1, 2, 3)" in words
    assert f"in which the baseline has {mine:.2f} ±" in words
    assert methods_rows(shown)[0][:4] == ["method", "top-1 %", "difference [95 %]", "seeds"]


def test_changes_of_a_pair_have_intervals_over_paired_seeds(shown, data):
    card = data["pairs"][1]
    a, b = card["true"], card["called"]

    def rate(result):
        counts = result.test_counts
        return 100 * (counts[a, b] + counts[b, a]) / (counts[a].sum() + counts[b].sum())

    runs = shown.table.runs
    differences = [rate(runs["cdml"][s]) - rate(runs["baseline"][s]) for s in range(4)]
    half = stats.t.ppf(0.975, 3) * np.std(differences, ddof=1) / 2
    mean = np.mean(differences)
    assert card["changes"][1] == f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"
    assert card["changes"][0] == ""
    assert card["changes"][2].endswith("], 3 seeds")
    assert [method["seeds"] for method in data["methods"]] == [4, 4, 3]
    assert data["against"] == 1
    assert data["methods"][0]["taken"] == [[1, 12], None, [3, 8], [2, 38], None]


def test_a_page_without_maps_has_no_place_for_them(shown, tmp_path):
    text = write_page(shown, tmp_path / "report.html").page.read_text(encoding="utf-8")
    assert 'id="map-plot"' not in text
    assert 'href="#map"' not in text
    assert "There is no map of the embeddings" in text
    assert "difference to Baseline" in text
