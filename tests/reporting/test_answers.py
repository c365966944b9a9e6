"""Figures of answers against oracles written separately: loops in float64, scikit-learn."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics

from cdml_jax.confusion.figures import class_figures, macro_f1
from cdml_jax.data import Classes
from cdml_jax.reporting import answers, evaluations, results, spreadsheets
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.suspects import Suspect, held_out, suspected_labels
from cdml_jax.reporting.table import tabulate
from cdml_jax.reporting.tables import answers_table
from cdml_jax.system.archives import write_archive


@pytest.fixture(scope="module")
def said():
    """200 images of 4 classes of unequal size, answers that are right more often the surer they are."""
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 200, p=[0.4, 0.3, 0.2, 0.1])
    logits = rng.normal(0, 1, (200, 4)) + 1.5 * np.eye(4)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    top = np.argsort(-shares, axis=1)[:, :3]
    return Predictions(
        tuple(f"{label}/{i}.jpg" for i, label in enumerate(labels)),
        labels,
        top,
        np.take_along_axis(shares, top, 1),
        shares[np.arange(200), labels],
    )


def counted(said, number=4):
    counts = np.zeros((number, number), int)
    np.add.at(counts, (said.labels, said.top_classes[:, 0]), 1)
    return counts


def test_precision_recall_and_f1_are_scikit_learns(said):
    counts = counted(said)
    expected = metrics.precision_recall_fscore_support(said.labels, said.top_classes[:, 0])
    found = class_figures(counts)
    np.testing.assert_allclose((found.precision, found.recall, found.f1, found.support), expected)
    assert macro_f1(counts) == pytest.approx(expected[2].mean())
    # A class without images counts for nothing but the precision of what it is called.
    wider = np.pad(counts, (0, 1))
    wider[0, 4] = 5
    assert macro_f1(wider) == pytest.approx(np.delete(class_figures(wider).f1, 4).mean())
    assert math.isnan(class_figures(wider).recall[4])


def test_calibration_error_is_the_loops(said):
    p, right = said.top_probabilities[:, 0].astype(float), said.top_classes[:, 0] == said.labels
    expected = 0.0
    for place in range(15):
        inside = [(a, b) for a, b in zip(p, right) if place / 15 < a <= (place + 1) / 15]
        if inside:
            expected += abs(sum(a for a, _ in inside) - sum(b for _, b in inside)) / len(p)
    assert answers.calibration_error(p, right) == pytest.approx(expected, abs=1e-6)
    bins = answers.reliability(p, right)
    assert sum(each.images for each in bins) == 200
    assert answers.calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert math.isnan(answers.calibration_error(p[:0], right[:0]))


def test_figures_reach_rows_and_tables(said, tmp_path):
    counts = counted(said)
    result = RunResult("cdml", 0, 1, 1.0, counts, counts, test=said)
    results.write_rows([result], tmp_path)
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    kept = [label in top for label, top in zip(said.labels, said.top_classes)]
    assert row["test_top5_accuracy"] == pytest.approx(np.mean(kept))
    assert row["test_macro_f1"] == macro_f1(counts)
    costs = np.array([[0, 1, 2, 3], [5, 0, 1, 1], [1, 1, 0, 9], [2, 2, 2, 0]], float)
    text = answers_table(tabulate([result], Classes(tuple("abcd"))), costs)
    expected = sum(costs[label, top[0]] for label, top in zip(said.labels, said.top_classes)) / 200
    assert f"{100 * row['test_macro_f1']:.2f}" in text
    assert f"{100 * row['test_calibration_error']:.2f}" in text
    assert f"{expected:.2f} |" in text


def test_a_label_that_models_deny_is_suspected_and_hard_images_are_not(said):
    wrong = said.labels.copy()
    sure = int(np.argmax(said.true_probability))
    wrong[sure] = (wrong[sure] + 1) % 4
    own = said.true_probability.copy()
    own[sure] = 0.001
    runs = [Predictions(said.names, wrong, said.top_classes, said.top_probabilities, own)] * 2
    found = suspected_labels(runs, 4)
    assert found[0] == Suspect(
        sure, int(said.labels[sure]), pytest.approx(0.001), pytest.approx(said.true_probability[sure])
    )
    # The oracle: every image by the definition, one after the other.
    thresholds = [own[wrong == c].mean() for c in range(4)]
    expected = set()
    for i in range(200):
        for c, p in zip(said.top_classes[i], said.top_probabilities[i]):
            if c != wrong[i] and p >= thresholds[c] and p > own[i]:
                expected.add(i)
    assert {each.image for each in found} == expected
    assert suspected_labels([], 4) == []


def test_folds_are_read_where_they_say_what_was_said(said, tmp_path, capsys):
    record = {"method": "baseline", "seed": 0, "folds": 2}
    parts = {"counts": counted(said)} | said.arrays("held_out")
    for fold in range(2):
        more = {"fold": fold, "names": [f"{fold}/{name}" for name in said.names]}
        write_archive(tmp_path / f"baseline-seed0-fold{fold}of2.npz", record | more, parts)
    assert len(held_out(tmp_path).names) == 400
    write_archive(tmp_path / "baseline-seed0-fold1of2.npz", record, {"counts": counted(said)})
    assert held_out(tmp_path) is None
    assert "older version" in capsys.readouterr().err
    assert held_out(tmp_path / "none") is None


def test_an_evaluation_comes_back_as_it_was(said, tmp_path):
    more = Predictions(
        said.names,
        said.labels,
        said.top_classes,
        said.top_probabilities,
        said.true_probability,
        neighbours=np.zeros((200, 2), int),
        similarities=np.ones((200, 2)),
        map=np.full((200, 2), 0.5),
        calibrated_probability=said.true_probability,
    )
    evaluations.save(evaluations.Evaluation("cdml", "CDML", 3, "test", 7, False, more), tmp_path)
    found = evaluations.load(tmp_path, "test")
    assert (found.title, found.seed, found.epoch) == ("CDML", 3, 7)
    for name in ("labels", "top_probabilities", "neighbours", "map", "calibrated_probability"):
        np.testing.assert_array_equal(getattr(found.predictions, name), getattr(more, name))
    assert found.predictions.names == said.names
    assert evaluations.load(tmp_path, "validation") is None


def test_no_cell_is_a_formula(said, tmp_path):
    names = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)")
    counts = counted(said)
    table = tabulate([RunResult("cdml", 0, 1, 1.0, counts, counts, test=said)], Classes(names))
    paths = [
        spreadsheets.write_predictions(table, "test", tmp_path),
        spreadsheets.write_classes(table, "test", tmp_path),
        spreadsheets.write_pairs(table, "test", tmp_path),
        spreadsheets.write_suspects(
            [("test", "=a.jpg", 0, Suspect(0, 1, 0.1, 0.9))], [[("test", "-b", "+1")] * 2], names, tmp_path
        ),
    ]
    import csv

    for path in paths:
        rows = list(csv.reader(path.open(newline="", encoding="utf-8")))
        assert len(rows) > 1
        for row in rows[1:]:
            for cell in row:
                assert not cell.startswith(("=", "+", "@"))
                assert not cell.startswith("-") or math.isfinite(float(cell))
    pairs = list(csv.DictReader(paths[2].open(newline="", encoding="utf-8")))
    for pair in pairs:
        i, j = (names.index(pair[key].removeprefix("'")) for key in ("class", "called"))
        assert int(pair["number"]) == counts[i, j]
    assert len(pairs) == np.count_nonzero(counts) - np.count_nonzero(np.diagonal(counts))
