"""Costs of other methods, against definitions written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.controls import (
    batch_hard_triplets,
    class_balanced,
    focal_factor,
    inverse_frequency,
    semi_hard_triplets,
)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_factor(gamma):
    cross_entropy = np.array([1e-6, 0.3, 1.0, 9.0])
    expected = (1 - np.exp(-cross_entropy)) ** gamma
    np.testing.assert_allclose(focal_factor(jnp.float32(cross_entropy), gamma), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_at_a_certain_answer(gamma):
    assert np.isfinite(jax.grad(lambda x: focal_factor(x, gamma).sum())(jnp.array([0.0, 50.0]))).all()


def test_inverse_frequency_has_mean_one_over_the_classes_present():
    weights = np.asarray(inverse_frequency(jnp.array([2, 0, 6, 12])))
    np.testing.assert_allclose(
        weights * [2, 0, 6, 12], [weights[0] * 2, 0, weights[0] * 2, weights[0] * 2], 1e-6
    )
    assert weights.sum() == pytest.approx(3)


@pytest.mark.parametrize("overlap", [0.0, 0.9, 0.9999])
def test_class_balanced_is_the_inverse_effective_number(overlap):
    images = np.array([2, 0, 7, 400])
    effective = np.array([sum(overlap**k for k in range(n)) for n in images])
    inverse = np.where(images > 0, 1 / np.maximum(effective, 1e-9), 0)
    weights = np.asarray(class_balanced(jnp.asarray(images), overlap=overlap))
    np.testing.assert_allclose(weights, inverse / inverse.sum() * 3, rtol=1e-4)


def test_semi_hard_is_the_brute_force_choice():
    rng = np.random.default_rng(1)
    embeddings, labels = rng.normal(size=(11, 3)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3])
    where = np.ones(11, bool)
    where[[2, 10]] = False
    triplets = semi_hard_triplets(
        jnp.float32(embeddings), jnp.asarray(labels), num_triplets=44, where=jnp.asarray(where)
    )
    distances = ((embeddings[:, None] - embeddings[None]) ** 2).sum(-1)
    for t in range(44):
        turn, a = divmod(t, 11)
        positives = [p for p in range(11) if where[a] and where[p] and p != a and labels[p] == labels[a]]
        negatives = [n for n in range(11) if where[a] and where[n] and labels[n] != labels[a]]
        assert bool(triplets.valid[t]) == bool(positives and negatives)
        if triplets.valid[t]:
            p = positives[turn % len(positives)]
            beyond = [n for n in negatives if distances[a, n] > distances[a, p]]
            nearest = min(beyond, key=lambda n: distances[a, n]) if beyond else None
            expected = max(negatives, key=lambda n: distances[a, n]) if nearest is None else nearest
            assert (int(triplets.positive[t]), int(triplets.negative[t])) == (p, expected)


def test_batch_hard_is_the_brute_force_choice():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(12, 5)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3])
    where = np.ones(12, bool)
    where[[2, 11]] = False
    triplets = batch_hard_triplets(
        jnp.float32(embeddings), jnp.asarray(labels), num_triplets=24, where=jnp.asarray(where)
    )
    distances = ((embeddings[:, None] - embeddings[None]) ** 2).sum(-1)
    for t in range(24):
        a = t % 12
        positives = [p for p in range(12) if where[p] and p != a and labels[p] == labels[a]]
        negatives = [n for n in range(12) if where[n] and labels[n] != labels[a]]
        assert bool(triplets.valid[t]) == bool(where[a] and positives and negatives)
        if triplets.valid[t]:
            assert int(triplets.positive[t]) == max(positives, key=lambda p: distances[a, p])
            assert int(triplets.negative[t]) == min(negatives, key=lambda n: distances[a, n])
