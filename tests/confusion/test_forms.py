"""Counts and pair weights answer the same questions alike, whatever form they are stored in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cdml_jax import confusion
from cdml_jax.confusion import (
    ByClassConfusion,
    ByClassPairWeights,
    DenseConfusion,
    DensePairWeights,
    TopPairWeights,
    as_confusion,
    as_pair_weights,
)

CLASSES = 6
COUNTS = np.array(
    [
        [10, 6, 0, 0, 0, 0],
        [3, 12, 1, 0, 0, 0],
        [0, 0, 16, 4, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 15, 1],
        [2, 0, 0, 0, 5, 9],
    ],
    np.float32,
)
EVERY_PAIR = np.argwhere(~np.eye(CLASSES, dtype=bool))


def split(matrix):
    """A matrix with rows of no class at its end, over four devices."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    padded = np.pad(matrix, ((0, -len(matrix) % 4), (0, 0)))
    return jax.device_put(padded, NamedSharding(mesh, PartitionSpec("data")))


def counters():
    """The counts as five counters a class: they hold every wrong answer."""
    true, called = (np.repeat(index.ravel(), COUNTS.astype(int).ravel()) for index in np.indices((6, 6)))
    top = confusion.update(confusion.init_top(CLASSES, 5, jnp.float32), true, called)
    return top.on_host()


FORMS = {
    "dense": lambda: DenseConfusion(COUNTS),
    "by class": lambda: ByClassConfusion(split(COUNTS)),
    "top": counters,
}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def counts(request):
    return request.param()


@pytest.fixture
def pairs(counts):
    return counts.statistics(smoothing=1.0, symmetric=False).pairs


def test_rates_and_weights_are_those_of_the_matrix(counts):
    rates = confusion.class_weights(COUNTS, smoothing=2.0, normalize=False)
    np.testing.assert_allclose(counts.rates(2.0), rates, rtol=1e-6)
    options = {"mode": "one_plus_rate", "beta": 0.5, "smoothing": 2.0, "normalize": True}
    expected = confusion.class_weights(COUNTS, **options)
    np.testing.assert_allclose(counts.class_weights(**options), expected, rtol=1e-6)
    on_host = counts.class_weights_on_host(**options)
    assert on_host.__class__ is np.ndarray
    np.testing.assert_allclose(on_host, expected, rtol=1e-6)
    statistics = counts.statistics(smoothing=2.0, symmetric=False)
    np.testing.assert_allclose(statistics.rates, rates, rtol=1e-6)
    expected = np.asarray(confusion.pair_weights(COUNTS, smoothing=2.0))[tuple(EVERY_PAIR.T)]
    np.testing.assert_allclose(statistics.pairs.at(EVERY_PAIR), expected, rtol=1e-5)


def test_figures_are_those_of_the_matrix(counts):
    errors, correct = counts.errors_and_correct()
    assert errors.tolist() == [6, 4, 4, 0, 1, 7]
    assert correct.tolist() == [10, 12, 16, 0, 15, 9]
    true, called, rates = counts.most_confused(4)
    assert list(zip(true.tolist(), called.tolist())) == [(0, 1), (5, 4), (2, 3), (1, 0)]
    np.testing.assert_allclose(rates, [6 / 16, 5 / 16, 4 / 20, 3 / 16], rtol=1e-6)
    assert len(counts.most_confused(99)[0]) == 7
    found = {int(other): share for other, share in zip(*counts.wrong_answers(5)) if share > 0}
    assert found == {0: pytest.approx(2 / 16), 4: pytest.approx(5 / 16)}
    assert not any(counts.wrong_answers(3)[1])


def test_what_is_kept_over_epochs_decays(counts):
    kept = counts.plus(counts, decay=0.5)
    assert type(kept) is type(counts)
    errors, correct = kept.errors_and_correct()
    np.testing.assert_allclose(errors, 1.5 * np.array([6, 4, 4, 0, 1, 7]))
    np.testing.assert_allclose(correct, 1.5 * np.array([10, 12, 16, 0, 15, 9]))
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} <= {np.dtype(np.float32), np.dtype(np.int32)}


def test_both_pass_through_jit_and_come_back_as_they_were(counts, pairs):
    for value in (counts, pairs):
        again = jax.jit(lambda a: jax.tree.map(lambda leaf: leaf + 0, a))(value)
        assert jax.tree.structure(again) == jax.tree.structure(value)
        assert again.num_classes == CLASSES
        for one, two in zip(jax.tree.leaves(again), jax.tree.leaves(value)):
            assert np.array_equal(one, two)


def test_pairs_answer_as_the_matrix_does(pairs):
    matrix = np.zeros((CLASSES, CLASSES), np.float32)
    matrix[tuple(EVERY_PAIR.T)] = pairs.at(EVERY_PAIR)
    assert pairs.shape == (CLASSES, CLASSES)
    assert pairs.is_law()
    np.testing.assert_allclose(pairs.rows(np.array([4, 0, 4])), matrix[[4, 0, 4]], rtol=1e-6)
    assert np.array_equal(pairs.largest(5), DensePairWeights(matrix).largest(5))
    np.testing.assert_allclose(pairs.uniform().at(EVERY_PAIR), 1 / 30, rtol=1e-6)
    assert type(pairs.uniform()) is type(pairs)
    present = np.array([True, True, True, False, True, True])
    anchors = np.array([0.1, 0.2, 0.3, 0.0, 0.2, 0.2])
    expected = DensePairWeights(matrix).joined(anchors, 2, present)
    np.testing.assert_allclose(pairs.joined(anchors, 2, present), expected, rtol=1e-5)


def test_the_host_has_numpy_arrays_without_padding(counts, pairs):
    for value in (counts.on_host(), pairs.on_host()):
        assert all(leaf.__class__ is np.ndarray for leaf in jax.tree.leaves(value))
        assert all(len(leaf) == CLASSES for leaf in jax.tree.leaves(value))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_what_is_no_law_is_said(bad):
    matrix = np.ones((3, 3), np.float32)
    matrix[0, 1] = bad
    assert not DensePairWeights(matrix).is_law()
    assert not ByClassPairWeights(split(matrix)).is_law()
    top = TopPairWeights(np.full((3, 1), -1), np.zeros((3, 1)), np.ones(3))
    assert top.is_law()
    assert not top._replace(rest=np.array([1.0, bad, 1.0])).is_law()
    assert not top._replace(excess=np.array([[1.0], [bad], [1.0]])).is_law()


def test_arrays_become_forms_and_forms_stay(counts, pairs):
    assert as_confusion(counts) is counts
    assert as_pair_weights(pairs) is pairs
    assert as_confusion(COUNTS).matrix is COUNTS
    assert as_pair_weights(COUNTS).matrix is COUNTS


def test_the_axis_of_split_rows_is_not_data():
    pairs = dataclasses.replace(ByClassPairWeights(split(COUNTS)), axis="rows")
    assert len(jax.tree.leaves(pairs)) == 1
    assert jax.tree.map(lambda a: a, pairs).axis == "rows"
