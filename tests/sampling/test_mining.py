"""Mined triplets against brute force, and what a miner promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.sampling.mining import (
    MINERS,
    batch_hard_triplets,
    hardest_of_drawn_triplets,
    mineable,
    semi_hard_triplets,
)
from cdml_jax.sampling.triplets import sample_triplets


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


def test_hardest_of_drawn_keeps_the_classes_that_were_drawn():
    rng = np.random.default_rng(2)
    embeddings, labels = rng.normal(size=(12, 5)), np.array([0, 2, 0, 1, 1, 2, 0, 2, 2, 3, 3, 3])
    where = np.ones(12, bool)
    where[[2, 11]] = False
    embeddings[[2, 11]] = np.nan
    pair_weights = rng.random((4, 4)) ** 4
    drawn = sample_triplets(
        jax.random.key(0), jnp.asarray(labels), jnp.float32(pair_weights), num_triplets=40, where=where
    )
    drawn = drawn._replace(valid=drawn.valid.at[7].set(False))
    hardest = hardest_of_drawn_triplets(jnp.float32(embeddings), jnp.asarray(labels), drawn, where=where)
    np.testing.assert_array_equal(hardest.anchor, drawn.anchor)
    np.testing.assert_array_equal(hardest.valid, drawn.valid)
    distances = ((embeddings[:, None] - embeddings[None]) ** 2).sum(-1)
    moved = 0
    for t in np.flatnonzero(drawn.valid):
        a, class_of_negative = int(drawn.anchor[t]), labels[drawn.negative[t]]
        positives = [p for p in range(12) if where[p] and p != a and labels[p] == labels[a]]
        negatives = [n for n in range(12) if where[n] and labels[n] == class_of_negative]
        assert int(hardest.positive[t]) == max(positives, key=lambda p: distances[a, p])
        assert int(hardest.negative[t]) == min(negatives, key=lambda n: distances[a, n])
        moved += int(hardest.negative[t]) != int(drawn.negative[t])
    assert drawn.valid.sum() == 39
    assert moved > 5


@pytest.mark.parametrize("name", [name for name, miner in MINERS.items() if not miner.drawn])
def test_every_miner_whose_anchors_go_round_finds_what_labels_promise(name):
    rng = np.random.default_rng(4)
    labels, where = np.array([0, 0, 1, 2, 2, 2, 3, 0]), np.arange(8) != 5
    found = MINERS[name].mine(
        jnp.float32(rng.normal(size=(8, 3))), jnp.asarray(labels), num_triplets=19, where=jnp.asarray(where)
    )
    promised = mineable(jnp.asarray(labels), num_triplets=19, where=jnp.asarray(where))
    np.testing.assert_array_equal(found.valid, promised)
    assert 0 < int(promised.sum()) < 19
    anchor, positive, negative = (np.asarray(rows)[np.asarray(promised)] for rows in found[:3])
    assert (labels[anchor] == labels[positive]).all()
    assert (labels[anchor] != labels[negative]).all()
    assert (anchor != positive).all()


@pytest.mark.parametrize("name", MINERS)
@pytest.mark.parametrize("share", [5, 12, 30])  # fewer triplets than rows, as many, more
def test_shares_of_a_batch_are_what_one_device_would_find(name, share):
    rng = np.random.default_rng(6)
    labels = jnp.asarray(rng.integers(0, 4, 12))
    where = jnp.arange(12) != 5
    embeddings = jnp.float32(rng.normal(size=(12, 3)))
    drawn = sample_triplets(jax.random.key(0), labels, jnp.ones((4, 4)), num_triplets=60, where=where)
    whole = MINERS[name](embeddings, labels, drawn, where=where)

    @jax.jit
    def mined(first):
        own = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, share), drawn)
        return MINERS[name](embeddings, labels, own, where=where, first=first)

    shares = [mined(first) for first in range(0, 60, share)]
    for one, other in zip(whole, jax.tree.map(lambda *parts: jnp.concatenate(parts), *shares)):
        np.testing.assert_array_equal(one, other)
    assert whole.valid.sum() > 40
