"""Mutual information against AccuracyCalculator's and against entropies in float64; what leaves it out."""

import importlib.util
import json
import math

import numpy as np
import pytest
from hard_sets import hard_sets, labels_of
from retrieval_goldens import FILE, cases, clusters_of
from sklearn.cluster import KMeans

from cdml_jax.retrieval.clustering import (
    LARGEST,
    _precision,
    mutual_information,
    normalized_mutual_information,
    why_not,
)

ALONE = [name for name, arguments in cases().items() if len(arguments) == 2]


def entropy(*divisions):
    """Of the images' joint division, in nats."""
    _, sizes = np.unique(np.stack(divisions), axis=1, return_counts=True)
    shares = sizes / sizes.sum()
    return -(shares * np.log(shares)).sum()


@pytest.mark.parametrize("name", ALONE)
def test_mutual_information_is_that_of_accuracy_calculator(name):
    _, labels = cases()[name]
    golden = json.loads(FILE.read_text())[name]["NMI"]
    assert mutual_information(labels, clusters_of(labels)) == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize("name", ALONE)
def test_mutual_information_is_that_of_the_entropies(name):
    _, labels = cases()[name]
    clusters = clusters_of(labels)
    shared = entropy(labels) + entropy(clusters) - entropy(labels, clusters)
    expected = shared / ((entropy(labels) + entropy(clusters)) / 2)
    assert 0.05 < expected < 0.95
    assert mutual_information(labels, clusters) == pytest.approx(expected, abs=1e-9)


def test_mutual_information_of_separate_and_of_mixed_clusters():
    labels = np.repeat(np.arange(4), 25)
    noise = np.random.default_rng(0).normal(0, 0.01, (100, 4)).astype(np.float32)
    assert normalized_mutual_information(np.eye(4)[labels] + noise, labels) == pytest.approx(1)
    # Two classes a cluster: I = ln 2, entropies ln 4 and, the clusters being halved at random, at most ln 4.
    mixed = normalized_mutual_information(np.eye(2)[labels % 2] + noise[:, :2], labels)
    assert 0.45 < mixed < 0.75


def test_the_same_embeddings_give_the_same_figure():
    embeddings, labels = cases()["chance"]
    found = {normalized_mutual_information(embeddings, labels) for _ in range(3)}
    assert len(found) == 1


def test_embeddings_that_are_all_the_same_tell_nothing(recwarn):
    labels = np.repeat(np.arange(3), 5)
    assert normalized_mutual_information(np.ones((15, 4)), labels) == 0
    assert not recwarn.list
    assert math.isnan(normalized_mutual_information(np.ones((0, 4)), np.zeros(0, int)))


@pytest.mark.parametrize("images", [1, 2, 300])
def test_classes_of_one_image_each_have_no_figure(images):
    """Each cluster is an image, so the figure of any embeddings would be 1."""
    rows = np.random.default_rng(0).normal(size=(images, 8))
    assert math.isnan(normalized_mutual_information(rows, np.arange(images)[::-1] * 3))
    labels = np.append(np.arange(images), 0)
    assert 0 <= normalized_mutual_information(np.append(rows, rows[:1], axis=0), labels) <= 1


def test_noise_of_two_images_a_class_has_a_high_figure():
    rows = np.float32(np.random.default_rng(0).normal(size=(600, 64)))
    assert normalized_mutual_information(rows, np.repeat(np.arange(300), 2)) == pytest.approx(0.85, abs=0.01)


@pytest.mark.parametrize(
    "name", ["as drawn", "+10000", "far clusters", "outliers", "column of two values", "smaller than normal"]
)
def test_clusters_of_hard_embeddings_are_those_of_float64(name):
    rows, labels = hard_sets(300)[name], labels_of(300)
    clusters = KMeans(20, n_init=1, random_state=0).fit_predict(rows.astype(np.float64))
    assert normalized_mutual_information(rows, labels) == pytest.approx(
        mutual_information(labels, clusters), abs=1e-9
    )


def test_ordinary_embeddings_are_clustered_in_float32():
    assert _precision(cases()["clusters"][0]) == np.float32


def test_what_leaves_it_out_is_named(monkeypatch):
    assert why_not(LARGEST) is None
    assert "50,001 embeddings" in why_not(LARGEST + 1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "cdml_jax[report]" in why_not(10)
