"""Retrieval figures against AccuracyCalculator's, and against a plain sort in float64."""

import json

import numpy as np
import pytest
from hard_sets import hard_sets, labels_of
from retrieval_goldens import FILE, RECALL_AT, cases, sorted_by_distance

from cdml_jax.retrieval import measures, neighbours, retrieval

CASES = cases()
HARD = hard_sets(300)


def brute_force(embeddings, labels, references=None, reference_labels=None):
    """The same figures, one query and one rank at a time."""
    alone = references is None
    if alone:
        references, reference_labels = embeddings, labels
    order = sorted_by_distance(embeddings, references, alone)
    recall, precisions, averages = {k: [] for k in RECALL_AT}, [], []
    for label, row in zip(labels, order):
        same = reference_labels[row] == label
        relevant = int(same.sum())
        if relevant == 0:
            continue
        for k in RECALL_AT:
            recall[k].append(same[:k].any())
        precisions.append(same[:relevant].mean())
        averages.append(sum(same[: i + 1].mean() for i in range(relevant) if same[i]) / relevant)
    return {k: np.mean(v) for k, v in recall.items()}, np.mean(precisions), np.mean(averages), len(averages)


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_of_accuracy_calculator(name):
    found, golden = retrieval(*CASES[name], recall_at=RECALL_AT), json.loads(FILE.read_text())[name]
    assert found.recall[1] == pytest.approx(golden["precision_at_1"], abs=1e-6)
    assert found.r_precision == pytest.approx(golden["r_precision"], abs=1e-6)
    assert found.map_at_r == pytest.approx(golden["mean_average_precision_at_r"], abs=1e-6)
    for k in RECALL_AT:
        assert found.recall[k] == pytest.approx(golden["recall"][str(k)], abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_of_a_plain_sort(name):
    found = retrieval(*CASES[name], recall_at=RECALL_AT)
    recall, precision, average, queries = brute_force(*CASES[name])
    assert found.recall == pytest.approx(recall, abs=1e-6)
    assert (found.r_precision, found.map_at_r) == pytest.approx((precision, average), abs=1e-6)
    assert found.queries == queries


def test_recall_beyond_the_number_of_references():
    found = retrieval([[0.0], [2.0], [3.0]], [0, 1, 0], recall_at=(1, 50))
    assert found.recall == {1: 0.0, 50: 1.0}
    assert found.queries == 2


def test_a_class_of_one_image_counts_in_nothing():
    embeddings, labels = CASES["clusters"]
    far = np.full((1, embeddings.shape[1]), 9, np.float32)
    alone = retrieval(np.concatenate([embeddings, far]), np.append(labels, 99), recall_at=RECALL_AT)
    assert alone == retrieval(embeddings, labels, recall_at=RECALL_AT)


def test_nothing_to_find_is_not_a_number():
    found = retrieval([[0.0], [1.0]], [0, 1])
    assert found.queries == 0
    assert np.isnan([found.map_at_r, found.r_precision, *found.recall.values()]).all()
    assert str(found) == "no image has another of its class to find"


def test_perfect_and_hopeless_embeddings():
    labels = np.repeat(np.arange(6), 4)
    perfect = retrieval(np.eye(6, dtype=np.float32)[labels], labels)
    assert (perfect.map_at_r, perfect.r_precision, perfect.recall[1]) == (1, 1, 1)
    # Each image's nearest are of the other class: pairs (0, 0'), (1, 1'), … far apart.
    places = np.repeat(np.arange(4.0) * 10, 2)[:, None]
    assert retrieval(places, np.tile([0, 1], 4), recall_at=(1,)).recall == {1: 0.0}


def test_queries_given_as_their_own_references_find_themselves():
    embeddings, labels = CASES["clusters"]
    assert retrieval(embeddings, labels, embeddings, labels).recall[1] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([[0.0], [np.nan]], [0, 0]), ValueError, "row 1 is not finite"),
        (([[0.0], [1e30]], [0, 0]), ValueError, "too long for float32"),
        (([0.0, 1.0], [0, 0]), ValueError, "must be"),
        (([[0.0], [1.0]], [0, 0, 0]), ValueError, "does not fit 2"),
        (([[0.0], [1.0]], [0.0, 1.0]), TypeError, "not float"),
        (([[0.0]], [0], [[1.0]]), ValueError, "go together"),
        (([[0.0]], [0], [[1.0, 2.0]], [0]), ValueError, "of size 1"),
    ],
)
def test_what_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        retrieval(*arguments)


@pytest.mark.parametrize("name", HARD)
def test_figures_of_hard_embeddings_are_those_of_brute_force(name):
    rows, labels = np.asarray(HARD[name], np.float64), labels_of(300)
    found = retrieval(HARD[name], labels, recall_at=RECALL_AT)
    recall, precision, average, queries = brute_force(rows, labels)
    assert found.recall == pytest.approx(recall, abs=1e-9)
    assert (found.r_precision, found.map_at_r) == pytest.approx((precision, average), abs=1e-6)
    assert found.queries == queries


def test_figures_are_the_same_in_one_block_and_in_many(monkeypatch):
    """Blocks that are filled across the borders of the blocks in which neighbours come."""
    rows, labels = HARD["far clusters, copies"], labels_of(300)
    whole = retrieval(rows, labels)
    monkeypatch.setattr(measures, "_ENTRIES", 40 * 16)
    monkeypatch.setattr(neighbours, "_SCORES", {"cpu": 24 * 384})
    assert retrieval(rows, labels) == whole
