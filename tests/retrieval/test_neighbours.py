"""The nearest by a plain sort in float64: hard embeddings; borders of tiles, blocks and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hard_sets import brute_force, hard_sets
from retrieval_goldens import sorted_by_distance

from cdml_jax.retrieval import nearest, neighbours, shortlist

HARD = hard_sets(420)


@pytest.mark.parametrize("name", HARD)
def test_neighbours_of_hard_embeddings_are_those_of_brute_force(name):
    rows = HARD[name]
    order = brute_force(rows, rows, True)
    for k in (1, 8, 50):
        assert np.array_equal(nearest(rows, k=k), order[:, :k])


@pytest.mark.parametrize("name", HARD)
def test_neighbours_among_other_references_are_those_of_brute_force(name):
    rows = HARD[name]
    assert np.array_equal(nearest(rows[:70], rows[50:], k=8), brute_force(rows[:70], rows[50:], False)[:, :8])


@pytest.mark.parametrize("name", ["far clusters", "far clusters, farther", "copies", "integers", "float64"])
def test_hard_embeddings_across_steps_blocks_and_devices(monkeypatch, name):
    monkeypatch.setattr(shortlist, "_STEP", 128)
    monkeypatch.setattr(neighbours, "_SCORES", {"cpu": 64 * 128})
    rows = HARD[name]
    found = nearest(rows, k=20, devices=jax.devices()[:3])
    assert np.array_equal(found, brute_force(rows, rows, True)[:, :20])


@pytest.mark.parametrize("many", [1, 10**9])
def test_the_second_search_and_the_last_find_the_same(monkeypatch, many):
    """In float64 on device for all that float32 leaves, and for none."""
    monkeypatch.setattr(neighbours, "_MANY", many)
    for name in ("far clusters", "column of two values", "integers", "all the same"):
        assert np.array_equal(nearest(HARD[name], k=8), brute_force(HARD[name], HARD[name], True)[:, :8])


def test_queries_far_from_the_references():
    rng = np.random.default_rng(5)
    references = np.float32(rng.normal(size=(300, 9)))
    for scale in (1e3, 1e6, 1e9, 1e15):
        queries = np.float32(scale * rng.normal(size=(40, 9)))
        assert np.array_equal(
            nearest(queries, references, k=7), brute_force(queries, references, False)[:, :7]
        )


def test_queries_and_references_of_two_types():
    rows = HARD["far clusters"]
    rounded = jnp.asarray(rows, jnp.bfloat16)
    expected = brute_force(rows[:40], np.asarray(rounded), False)[:, :5]
    assert np.array_equal(nearest(rows[:40].astype(np.float64), rounded, k=5), expected)


def test_ordinary_embeddings_are_searched_once(monkeypatch):
    """All is decided by the product in float32 and the few pairs that its rounding leaves open."""
    monkeypatch.setattr(neighbours, "search_all", None)
    compared = []
    real = neighbours.put_in_order
    monkeypatch.setattr(
        neighbours, "put_in_order", lambda *given: compared.append(len(given[0])) or real(*given)
    )
    rows = np.random.default_rng(0).normal(size=(2000, 64))
    nearest(np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True)), k=10)
    assert sum(compared) == 2000


def test_float64_is_left_off_for_the_caller():
    for _ in neighbours.search(HARD["far clusters, farther"], None, 8, None):
        assert jnp.zeros(1).dtype == jnp.float32


def test_no_references_and_no_queries():
    assert nearest(np.zeros((0, 3)), k=2).shape == (0, 2)
    assert nearest(np.zeros((2, 3)), np.zeros((0, 3)), k=2).tolist() == [[-1, -1], [-1, -1]]
    assert nearest(np.zeros((3, 0)), k=2).tolist() == [[1, 2], [0, 2], [0, 1]]


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([[0.0], [np.nan]], ValueError, "embeddings: row 1 is not finite"),
        ([[0.0, 1.0], [-np.inf, 0.0]], ValueError, "row 1 is not finite"),
        ([[0.0], [1e200]], ValueError, "too long for float32"),
        (np.float16([[0], [np.inf]]), ValueError, "row 1 is not finite"),
        ([[0j], [1j]], TypeError, "real numbers"),
        ([["a"], ["b"]], TypeError, "real numbers"),
    ],
)
def test_what_is_refused(rows, error, words):
    with pytest.raises(error, match=words):
        nearest(rows, k=1)
    with pytest.raises(error, match=words.replace("embeddings", "references")):
        nearest(np.zeros((1, np.shape(rows)[1])), rows, k=1)


@pytest.mark.parametrize("k", [1, 60, 300])
@pytest.mark.parametrize("alone", [True, False])
def test_neighbours_across_tiles_steps_blocks_and_devices(monkeypatch, k, alone):
    """Several of everything, with ties across all the borders: small integers are exact in float32."""
    monkeypatch.setattr(shortlist, "_STEP", 256)
    monkeypatch.setattr(neighbours, "_SCORES", {"cpu": 64 * 2 * 128})
    rng = np.random.default_rng(k)
    references = np.float32(rng.integers(-2, 3, (701, 4)))
    queries = references if alone else np.float32(rng.integers(-2, 3, (150, 4)))
    found = nearest(queries, None if alone else references, k=k, devices=jax.devices()[:2])
    assert np.array_equal(found, sorted_by_distance(queries, references, alone)[:, :k])


def test_equal_embeddings_are_equally_near_wherever_they_stand():
    """Rounding must not depend on the place in a block, or duplicates would not go by index."""
    rng = np.random.default_rng(3)
    few = rng.normal(size=(5, 33)).astype(np.float32)
    rows = few[rng.integers(0, 5, 1500)]
    kinds = np.unique(rows, axis=0, return_inverse=True)[1]
    found = nearest(rows, k=40)
    for index in range(0, 1500, 7):
        kin = np.flatnonzero(kinds == kinds[index])
        assert np.array_equal(found[index], kin[kin != index][:40])


def test_fewer_references_than_asked_for():
    assert nearest([[0.0], [2.0], [3.0]], k=4).tolist() == [[1, 2, -1, -1], [2, 0, -1, -1], [1, 0, -1, -1]]
