"""Distances by differences, the order of what rounding leaves open, and what few rows stand for all."""

import numpy as np

from cdml_jax.retrieval.exact import first_copies, put_in_order, search_all, squared_distances
from cdml_jax.retrieval.shortlist import Frame


def test_squared_distances_are_bitwise_those_of_numpy():
    rng = np.random.default_rng(0)
    queries, references = np.float32(rng.normal(size=(50, 37))), np.float32(rng.normal(size=(60, 37)))
    rows, indices = rng.integers(0, 50, 5000), rng.integers(0, 60, 5000)
    expected = ((np.float64(queries)[:, None] - np.float64(references)) ** 2).sum(axis=-1)
    assert np.array_equal(squared_distances(queries, references, rows, indices), expected[rows, indices])


def test_only_what_is_open_and_wanted_is_put_in_order():
    places = np.float64([[0], [1], [2], [3], [4], [5]])
    queries = np.float64([[0.0]])
    indices = np.array([[1, 0, 2, 4, 3, 5]])
    # Runs: (1, 0), (2), (4, 3), (5).
    ends = np.array([[False, True, True, False, True, True]])
    assert put_in_order(queries, places, indices, ends, 6).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert put_in_order(queries, places, indices, ends, 3).tolist() == [[0, 1, 2, 4, 3, 5]]
    # Of a run of one class any order will do.
    classes = np.array([0, 0, 0, 1, 2, 0])
    assert put_in_order(queries, places, indices, ends, 6, classes).tolist() == [[1, 0, 2, 3, 4, 5]]


def test_equal_distances_go_by_index_and_nothing_stays_behind():
    places = np.float32([[1], [-1], [1]])
    indices, ends = np.array([[2, 1, 0, -1, -1]]), np.array([[False, False, True, False, True]])
    found = put_in_order(np.float32([[0]]), places, indices, ends, 5)
    assert found.tolist() == [[0, 1, 2, -1, -1]]


def test_first_copies_of_each_row():
    rows = np.float32([[1, 2], [3, 4], [1, 2], [1, 2], [5, 6], [3, 4], [1, 2]])
    assert first_copies(rows, 2).tolist() == [0, 1, 2, 4, 5]
    assert first_copies(rows, 9).tolist() == list(range(7))
    assert first_copies(np.zeros((5, 0), np.float32), 2).tolist() == [0, 1]


def test_all_references_that_tie_are_compared():
    """More than one step of references, all at one distance: the first by index are found."""
    references = np.tile(np.float32(np.eye(3)), (4000, 1))
    queries = np.zeros((5, 3), np.float32)
    found = search_all(queries, references, Frame.of(queries, references), 6)
    assert found.tolist() == [[0, 1, 2, 3, 4, 5]] * 5
