"""One pass gives counts and embeddings; which embedding of a row is measured, and by what."""

import dataclasses

import jax
import numpy as np
import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.data import ArraySource
from cdml_jax.data.feeds.feed import ImageFeed
from cdml_jax.methods import METHODS
from cdml_jax.retrieval import clustering, retrieval
from cdml_jax.runs.evaluation import TOP, evaluate_split, measure, measured_embedding
from cdml_jax.training.program import Program


def outputs(program, state, split, *, projected=True):
    """The network itself, outside the step, on the split's images in their order."""
    source = program.dataset.splits[split]
    images = np.stack([source.image(index) for index in range(len(source))])
    network = program.model(state)
    if not projected:
        network.heads.projection = None
    return network(images / np.float32(127.5) - 1, train=False), source.labels


@pytest.mark.parametrize("embedding", ["projection", "features"])
def test_one_pass_on_all_devices_gives_counts_and_embeddings_in_order(
    config, dataset, embedding, monkeypatch
):
    program = Program(config, dataset)
    state, passes, batches = program.initial_state(0), [], ImageFeed.evaluation
    monkeypatch.setattr(ImageFeed, "evaluation", lambda feed: passes.append(feed) or batches(feed))
    found = evaluate_split(program, state, "validation", embedding)
    assert passes == [program.feed("validation")]
    expected, labels = outputs(program, state, "validation", projected=embedding == "projection")
    assert found.embeddings.shape == (54, 8 if embedding == "projection" else 16)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=2e-6)
    assert np.array_equal(found.labels, labels)
    called = np.zeros((6, 6), int)
    np.add.at(called, (labels, found.top_classes[:, 0]), 1)
    assert np.array_equal(found.counts.matrix, called)
    logits = np.asarray(expected.logits, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    assert np.array_equal(found.top_classes, likeliest)
    np.testing.assert_allclose(
        found.top_probabilities, np.take_along_axis(probabilities, likeliest, axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(found.true_probability, probabilities[np.arange(54), labels], rtol=1e-5)
    assert found.top_probabilities.dtype == found.true_probability.dtype == np.float32


def test_a_class_never_trained_has_no_probability_and_no_embeddings_are_gathered_unasked(config, dataset):
    source = dataset.splits["test"]
    images = [source.image(index) for index in range(len(source))]
    strange = ArraySource(images, np.where(source.labels == 5, 17, source.labels))
    program = Program(config, dataclasses.replace(dataset, splits={**dataset.splits, "test": strange}))
    found = evaluate_split(program, program.initial_state(0), "test")
    assert np.array_equal(np.isnan(found.true_probability), source.labels == 5)
    assert found.embeddings.shape == (60, 0)


def test_images_come_in_the_splits_order_whatever_that_of_the_batches(config, dataset, monkeypatch):
    program = Program(config, dataset)
    state = program.initial_state(0)
    expected, batches = evaluate_split(program, state, "validation", "features"), ImageFeed.evaluation
    monkeypatch.setattr(ImageFeed, "evaluation", lambda feed: reversed(list(batches(feed))))
    found = evaluate_split(program, state, "validation", "features")
    for before, after in zip(expected, found, strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("storage", ["by_class", "top"])
def test_classes_split_over_devices_are_ranked_alike(config, dataset, storage):
    whole = Program(config, dataset)
    expected = evaluate_split(whole, whole.initial_state(0), "test")
    program = Program(changed(config, {"confusion.storage": storage, "mesh.model": 2}), dataset)
    found = evaluate_split(program, program.initial_state(0), "test")
    assert np.array_equal(found.top_classes, expected.top_classes)
    np.testing.assert_allclose(found.top_probabilities, expected.top_probabilities, rtol=1e-5)


def test_features_need_no_second_program_where_they_are_the_embedding(config, dataset):
    config = changed(config, {"model.embedding_from": "features"})
    program = Program(config, dataset, devices=jax.devices()[:1])
    state = program.initial_state(0)
    program.evaluate(state, "validation")
    found = evaluate_split(program, state, "test", "features")
    np.testing.assert_allclose(found.embeddings, outputs(program, state, "test")[0].embeddings, atol=2e-6)
    assert program.traces["evaluate"] == 1
    assert program.traces["evaluate_features"] == 0


@pytest.mark.parametrize(
    ("method", "embedding_from", "triplet_weight", "measured"),
    [
        ("cdml", "projection", 0.3, "projection"),
        ("cdml", "features", 0.3, "features"),
        ("cdml", "projection", 0.0, "features"),
        ("baseline", "projection", 0.3, "features"),
        ("weighted_softmax", "projection", 0.3, "features"),
        ("pair_costs_triplets", "projection", 0.3, "projection"),
    ],
)
def test_a_projection_that_nothing_trains_is_not_measured(
    config, method, embedding_from, triplet_weight, measured
):
    config = changed(
        config, {"model.embedding_from": embedding_from, "objective.triplet_weight": triplet_weight}
    )
    assert measured_embedding(config, METHODS[method]) == measured


def test_what_is_measured_and_what_is_left_out(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 12)
    embeddings = np.float32(np.eye(4)[labels] + rng.normal(0, 0.4, (48, 4)))
    figures = measure(embeddings, labels, "features")
    assert figures.retrieval == retrieval(embeddings, labels)
    assert figures.nmi == clustering.normalized_mutual_information(embeddings, labels)
    assert "mAP@R" in str(figures)
    assert f"NMI {figures.nmi:.2%}" in str(figures)
    monkeypatch.setattr(clustering, "LARGEST", 47)
    assert "NMI" not in str(measure(embeddings, labels, "features"))


def test_embeddings_that_have_collapsed_are_said_to_have():
    labels = np.repeat(np.arange(4), 12)
    spread = np.random.default_rng(0).normal(size=(48, 4))
    assert measure(np.float32(1 + 1e-2 * spread), labels, "features").warning is None
    assert "noise" in measure(np.float32(1 + 1e-9 * spread), labels, "features").warning
    one_each = measure(np.float32(spread), np.arange(48), "features")
    assert np.isnan(one_each.nmi)
    assert one_each.columns()["test_nmi"] is None
