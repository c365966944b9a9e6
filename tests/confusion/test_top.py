"""Counts of the K most frequent wrong answers: exact where they fit, within the bound where they do not."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from cdml_jax import confusion
from cdml_jax.confusion import TopConfusions, init_top
from cdml_jax.confusion import top as top_counts

pytestmark = pytest.mark.usefixtures("strict_shapes")
update = jax.jit(confusion.update)


def dense_errors(top):
    """(C, C) of the counters, by loops."""
    indices, values = np.asarray(top.indices), np.asarray(top.values)
    matrix = np.zeros((len(indices), len(indices)))
    for i, k in zip(*np.nonzero(indices >= 0)):
        assert matrix[i, indices[i, k]] == 0, "an answer has two counters"
        matrix[i, indices[i, k]] = values[i, k]
    assert ((indices >= 0) == (values > 0)).all()
    return matrix


def dense_pairs(pairs):
    """(C, C) of sparse pair weights, by loops."""
    matrix = np.repeat(np.asarray(pairs.rest, np.float64)[:, None], pairs.rest.size, axis=1)
    for i, row in enumerate(np.asarray(pairs.indices)):
        for k in np.flatnonzero(row >= 0):
            matrix[i, row[k]] += pairs.excess[i, k]
    np.fill_diagonal(matrix, 0)
    return matrix


def check_bound(top, counts, counters=None):
    """The invariant of Misra and Gries, tighter than n_i / (K + 1); errors and correct ones are exact."""
    counts = np.float64(counts)
    wrong = counts * (1 - np.eye(len(counts)))
    np.testing.assert_allclose(top.correct, np.diag(counts), rtol=1e-5)
    np.testing.assert_allclose(top.errors, wrong.sum(axis=1), rtol=1e-5)
    kept = dense_errors(top)
    missing = wrong - kept
    let_go = wrong.sum(axis=1) - kept.sum(axis=1)
    slack = 1e-5 * (1 + wrong.sum(axis=1))
    assert (missing >= -slack[:, None]).all()
    k = counters or top.values.shape[1]
    assert (missing <= (let_go / (k + 1) + slack)[:, None]).all()


def batches_of(rng, kind, classes, number, batch):
    """Streams that are hard on counters: even, ever new answers, a late heavy one, repeated in a batch."""
    for b in range(number):
        labels = rng.integers(0, 3, batch)
        if kind == "even":
            answers = rng.integers(0, classes, batch)
        elif kind == "new":
            answers = (b * batch + np.arange(batch)) % classes
        elif kind == "late":
            answers = np.where(b < number // 2, rng.integers(0, classes, batch), classes - 1 - labels)
        else:
            answers = np.minimum(rng.geometric(0.25, batch), classes) - 1
        yield labels, answers


@pytest.mark.parametrize("kind", ["even", "new", "late", "geometric"])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_undercount_is_bounded_on_adversarial_streams(kind, k):
    rng, classes = np.random.default_rng(k), 13
    top, counts = init_top(classes, k), np.zeros((classes, classes))
    for labels, answers in batches_of(rng, kind, classes, 30, 20):
        np.add.at(counts, (labels, answers), 1)
        top = update(top, labels, answers)
        check_bound(top, counts)
    if k == classes - 1:
        assert np.array_equal(dense_errors(top), counts * (1 - np.eye(classes)))
    if kind == "geometric" and k > 1:
        assert {1, 2} <= set(top.indices[0].tolist())


def test_the_bound_is_reached():
    """K + 1 answers equally often: each is let go of exactly n / (K + 1) times, no more."""
    top = init_top(6, 3)
    for answer in (1, 2, 3, 4):
        top = update(top, jnp.zeros(5, jnp.int32), jnp.full(5, answer))
    assert top.values[0].tolist() == [0, 0, 0]
    assert int(top.errors[0]) == 20


@pytest.mark.parametrize("k", [1, 4, 9])
def test_probabilities_keep_the_bound(k):
    rng, classes = np.random.default_rng(k), 10
    top, counts = init_top(classes, k, jnp.float32), np.zeros((classes, classes))
    concentration = np.r_[5.0, 3.0, np.full(classes - 2, 0.2)]
    for _ in range(20):
        labels, probabilities = rng.integers(0, 3, 12), rng.dirichlet(concentration, 12)
        where = rng.random(12) < 0.8
        np.add.at(counts, labels[where], probabilities[where])
        probabilities[~where] = np.nan
        top = update(top, np.where(where, labels, 999), jnp.float32(probabilities), where=where)
        check_bound(top, counts)
    if k == classes - 1:
        np.testing.assert_allclose(dense_errors(top), counts * (1 - np.eye(classes)), rtol=1e-5, atol=1e-6)


def test_fewer_answers_a_row_keep_the_bound_of_so_many_counters():
    rng, classes = np.random.default_rng(0), 12
    add = jax.jit(functools.partial(TopConfusions.add_probabilities, per_row=2))
    top, counts = init_top(classes, 8, jnp.float32), np.zeros((classes, classes))
    for _ in range(20):
        labels, probabilities = rng.integers(0, 4, 9), rng.dirichlet(np.full(classes, 0.4), 9)
        np.add.at(counts, labels, probabilities)
        top = add(top, labels, jnp.float32(probabilities), jnp.ones(9, bool))
        check_bound(top, counts, counters=2)


def test_padding_and_rows_of_no_class_are_left_out():
    labels, predictions = jnp.array([1, -1, 999, 2, 0, 3]), jnp.array([0, 7, -2, 9, -1, 3])
    top = update(init_top(4, 2), labels, predictions, where=jnp.arange(6) != 5)
    assert int(top.errors.sum() + top.correct.sum()) == 1
    assert dense_errors(top)[1, 0] == 1


def test_more_rows_than_classes_and_a_batch_of_one():
    rng = np.random.default_rng(3)
    labels, answers = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, answers), 1)
    top = update(init_top(4, 3), labels, answers)
    assert np.array_equal(dense_errors(top), counts * (1 - np.eye(4)))
    one = update(init_top(4, 3), labels[:1], answers[:1])
    assert int(one.errors.sum() + one.correct.sum()) == 1


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_merged_summaries_keep_the_bound(dtype):
    rng, classes, k = np.random.default_rng(1), 15, 4
    tops, counts = [], np.zeros((classes, classes))
    for _ in range(5):
        labels, answers = rng.integers(0, 3, 60), np.minimum(rng.geometric(0.15, 60), classes) - 1
        np.add.at(counts, (labels, answers), 1)
        tops.append(update(init_top(classes, k, dtype), labels, answers))
    check_bound(functools.reduce(lambda kept, top: kept.plus(top, decay=1.0), tops), counts)
    check_bound(jax.jit(top_counts.merge_stacked)(jax.tree.map(lambda *a: jnp.stack(a), *tops)), counts)


def stream(classes, rows=256):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes, rows)
    return labels, (labels + np.minimum(rng.geometric(0.3, rows), classes) - 1) % classes


@pytest.mark.parametrize("transform", ["pmap", "shard_map"])
@pytest.mark.parametrize(("classes", "k"), [(11, 10), (11, 2), (5, 2)])
def test_counts_reduced_over_eight_devices_are_one_summary_of_the_whole(transform, classes, k):
    labels, answers = stream(classes)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, answers), 1)

    def count(labels, answers):
        return confusion.reduce(confusion.update(init_top(classes, k), labels, answers), "data")

    if transform == "pmap":
        split = (a.reshape(8, -1) for a in (labels, answers))
        on_devices = jax.pmap(count, axis_name="data")(*split)
        for leaf in on_devices:
            assert (np.asarray(leaf) == np.asarray(leaf[:1])).all()
        reduced = jax.tree.map(lambda a: a[5], on_devices)
    else:
        mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
        rows = PartitionSpec("data")
        mapped = jax.shard_map(count, mesh=mesh, in_specs=(rows, rows), out_specs=PartitionSpec())
        reduced = jax.jit(mapped)(labels, answers)
    check_bound(reduced, counts)
    if k == classes - 1:
        assert np.array_equal(dense_errors(reduced), counts * (1 - np.eye(classes)))


def test_decay_scales_what_is_kept_and_drops_nothing_but_all():
    top, none = update(init_top(5, 2), *stream(5)), init_top(5, 2)
    half = top.plus(none, decay=0.5)
    np.testing.assert_allclose(dense_errors(half), dense_errors(top) / 2)
    assert half.values.dtype == half.errors.dtype == np.float32
    gone = top.plus(none, decay=0.0)
    assert (gone.indices == -1).all()
    assert not gone.errors.any()


def both_kinds(smoothing, k=None, **keywords):
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 9, (7, 7)) * (rng.random((7, 7)) < 0.6)
    counts[3] = 0
    labels, answers = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices((7, 7)))
    top = update(init_top(7, k or 6), labels, answers)
    return jnp.asarray(counts), top


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 2.5])
def test_costs_of_complete_counters_are_those_of_the_matrix(smoothing):
    counts, top = both_kinds(smoothing)
    for keywords in ({"mode": "rate"}, {"mode": "one_plus_rate", "beta": 2.0}, {"normalize": False}):
        ours = confusion.class_weights(top, smoothing=smoothing, **keywords)
        assert np.array_equal(ours, confusion.class_weights(counts, smoothing=smoothing, **keywords))
    pairs = confusion.pair_weights(top, smoothing=smoothing)
    np.testing.assert_allclose(
        dense_pairs(pairs), confusion.pair_weights(counts, smoothing=smoothing), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("k", [1, 3])
def test_rows_of_pair_weights_sum_to_the_rates_whatever_is_let_go(k):
    counts, top = both_kinds(1.0, k)
    pairs = dense_pairs(confusion.pair_weights(top))
    assert pairs.sum() == pytest.approx(1, abs=1e-6)
    assert (pairs >= 0).all()
    np.testing.assert_allclose(pairs.sum(axis=1), confusion.pair_weights(counts).sum(axis=1), rtol=1e-5)
    assert np.array_equal(confusion.class_weights(top), confusion.class_weights(counts))


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_no_errors_give_ones_and_uniform_pairs(smoothing):
    top = update(init_top(4, 2), jnp.array([0, 1, 1]), jnp.array([0, 1, 1]))
    assert confusion.class_weights(top, smoothing=smoothing).tolist() == [1, 1, 1, 1]
    pairs = dense_pairs(confusion.pair_weights(top, smoothing=smoothing))
    np.testing.assert_allclose(pairs, (1 - np.eye(4)) / 12, rtol=1e-6)


def test_rare_errors_of_many_classes_keep_their_digits():
    """Columns are summed in parts: every part counts once, and the label's is left out, wherever it is."""
    classes = 9_000
    rare = np.random.default_rng(0).random((5, classes)) * 1e-12
    labels = np.array([0, 4095, 4096, 8999, 8191])
    rare[np.arange(5), labels] = 1
    top = update(init_top(classes, 3, jnp.float32), labels, jnp.float32(rare))
    np.testing.assert_allclose(np.asarray(top.errors)[labels], rare.sum(axis=1) - 1, rtol=1e-4)


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="from 1 to 4"):
        init_top(5, 5)
    with pytest.raises(TypeError, match="cannot hold probabilities"):
        update(init_top(3, 1), jnp.array([0]), jnp.array([[0.5, 0.25, 0.25]]))
    with pytest.raises(ValueError, match="fit 3 classes"):
        update(init_top(3, 1, jnp.float32), jnp.array([0]), jnp.array([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="symmetric"):
        confusion.pair_weights(init_top(3, 1), symmetric=True)
    with pytest.raises(TypeError, match="sample_triplets"):
        confusion.triplet_quota(confusion.pair_weights(init_top(3, 1)), 8)


def largest_array(compiled):
    """Elements of the largest array that the compiled program names."""
    shapes = re.findall(r"(?:f32|s32|u32|pred)\[([\d,]+)\]", compiled.as_text())
    return max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes)


def test_a_hundred_thousand_classes_make_nothing_of_size_c_by_c():
    classes, k, batch = 100_000, 16, 64
    top = jax.eval_shape(lambda: init_top(classes, k))
    rows = jax.ShapeDtypeStruct((batch,), jnp.int32)
    update = jax.jit(confusion.update, donate_argnums=0).lower(top, rows, rows).compile()
    assert largest_array(update) == classes * k
    analysis = update.memory_analysis()
    assert analysis.alias_size_in_bytes >= 2 * classes * k * 4, "the counters are not updated in place"
    assert analysis.temp_size_in_bytes < 60 * batch * (k + 1) * 4
    derive = jax.jit(lambda t: (confusion.pair_weights(t), confusion.class_weights(t))).lower(top).compile()
    assert largest_array(derive) == classes * k


def test_probabilities_of_many_classes_are_read_and_not_copied():
    classes, k, batch = 30_000, 8, 32
    top = jax.eval_shape(lambda: init_top(classes, k, jnp.float32))
    rows = jax.ShapeDtypeStruct((batch,), jnp.int32)
    probabilities = jax.ShapeDtypeStruct((batch, classes), jnp.float32)
    compiled = jax.jit(confusion.update, donate_argnums=0).lower(top, rows, probabilities).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < batch * classes * 4 / 4
