"""What counts and labels cannot hold is refused, left out or stopped, and never wrong in silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax import confusion, sample_triplets
from cdml_jax.confusion.labels import class_labels
from cdml_jax.losses import confusion_weighted_logits, weighted_softmax_cross_entropy

LARGEST = 2**31 - 1
EMPTY = {"matrix": confusion.init, "top": lambda *a: confusion.init_top(a[0], a[0] - 1, *a[1:])}


def matrix_of(counts):
    """(C, C) in float64 of counts of either form."""
    if counts.__class__ is not confusion.TopConfusions:
        return np.float64(counts)
    matrix = np.diag(np.float64(counts.correct))
    for i, k in zip(*np.nonzero(np.asarray(counts.indices) >= 0)):
        matrix[i, counts.indices[i, k]] = counts.values[i, k]
    return matrix


@pytest.fixture(params=EMPTY.values(), ids=EMPTY)
def empty(request):
    return request.param


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("dtype", "limit"),
    [
        ("bfloat16", 256),
        ("float16", 2048),
        ("int8", 127),
        ("uint8", 255),
        ("int16", 32767),
        ("bool", "at all"),
    ],
)
def test_dtypes_that_stop_early_are_refused(empty, dtype, limit):
    with pytest.raises(TypeError, match=f"{dtype} cannot count .*{limit}; use int32 .* or float32"):
        empty(3, dtype)
    counts = jax.tree.map(lambda a: a.astype(dtype), confusion.init(3))
    with pytest.raises(TypeError, match=f"{dtype} cannot count"):
        confusion.update(counts, np.array([0]), np.array([1]))


def test_rows_whose_sum_int32_cannot_hold_have_their_rates():
    counts = np.array([[LARGEST, 2**30], [0, 2**30]], np.int32)
    rates = confusion.class_weights(counts, smoothing=0.0, normalize=False)
    np.testing.assert_allclose(rates, [1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(confusion.pair_weights(counts, smoothing=0.0), [[0, 1], [0, 0]], atol=1e-7)


def test_counters_whose_sum_int32_cannot_hold_have_their_rates():
    errors, correct = np.array([2**30, 0], np.int32), np.array([LARGEST, 2**30], np.int32)
    top = confusion.TopConfusions(np.array([[1], [-1]], np.int32), errors[:, None], errors, correct)
    rates = confusion.class_weights(top, smoothing=0.0, normalize=False)
    np.testing.assert_allclose(rates, [1 / 3, 0], rtol=1e-6)


@pytest.mark.parametrize("wide", [False, True])
def test_counts_wider_than_int32_are_not_narrowed(wide):
    counts = np.array([[3 * 2**32, 2**32], [0, 5]], np.int64)
    with jax.enable_x64(wide):
        rates = confusion.class_weights(counts, smoothing=0.0, normalize=False)
    np.testing.assert_allclose(rates, [1 / 4, 0], rtol=1e-6)


def test_full_counts_of_integers_stop_and_do_not_wrap_around(empty):
    counts = empty(3)
    counts = confusion.update(counts, np.array([0, 0, 1]), np.array([0, 2, 1]))
    full = jax.tree.map(lambda a: jnp.where(a == 1, LARGEST - 2, a), counts)
    if full.__class__ is confusion.TopConfusions:
        full = full._replace(indices=counts.indices)
    for _ in range(3):
        full = confusion.update(full, np.array([0, 0, 1, 2]), np.array([0, 2, 1, 0]))
    expected = [[LARGEST - 2, 0, LARGEST - 2], [0, LARGEST - 2, 0], [3, 0, 0]]
    assert matrix_of(full).tolist() == expected


def test_integers_count_to_the_last_batch_that_fits():
    counts = jnp.array([[LARGEST - 4]])
    counts = confusion.update(counts, np.zeros(4, int), np.zeros(4, int))
    assert counts.tolist() == [[LARGEST]]


def test_float64_goes_on_where_float32_stops(float64):
    counts = jnp.full((2, 2), 2.0**24, jnp.float64)
    rows = np.zeros(100, int)
    assert confusion.update(counts, rows, rows)[0, 0] == 2**24 + 100
    soft = confusion.update(counts, rows, jnp.tile(jnp.array([0.9, 0.1]), (100, 1)))
    np.testing.assert_allclose(soft[0] - 2.0**24, [90, 10], rtol=1e-6)


BEYOND = {
    "int64": np.array([2**32 + 1, -(2**32) + 1, 1], np.int64),
    "uint64": np.array([2**32 + 1, 2**63 + 1, 1], np.uint64),
    "uint32": np.array([2**32 - 1, 2**31 + 1, 1], np.uint32),
}


@pytest.mark.parametrize("labels", BEYOND.values(), ids=BEYOND)
def test_labels_that_int32_cannot_hold_are_no_class(empty, labels):
    ones = np.ones(3, np.int32)
    once = matrix_of(confusion.update(empty(3), ones[:1], ones[:1]))
    assert np.array_equal(matrix_of(confusion.update(empty(3), labels, ones)), once), "as labels"
    assert np.array_equal(matrix_of(confusion.update(empty(3), ones, labels)), once), "as predictions"


@pytest.mark.parametrize("labels", BEYOND.values(), ids=BEYOND)
def test_the_loss_of_such_labels_is_not_that_of_another_class(labels):
    losses = weighted_softmax_cross_entropy(np.zeros((3, 4), np.float32), labels, np.ones(4, np.float32))
    assert np.isnan(losses).tolist() == [True, True, False]
    kept = weighted_softmax_cross_entropy(
        np.zeros((3, 4), np.float32), labels, np.ones(4, np.float32), where=np.array([False, False, True])
    )
    np.testing.assert_allclose(kept, [0, 0, np.log(4)], rtol=1e-6)


def test_no_triplet_is_drawn_of_such_labels():
    labels = np.array([2**32, 0, 2**32 + 1, 1])
    triplets = sample_triplets(jax.random.key(0), labels, jnp.ones((2, 2)), num_triplets=8)
    assert not triplets.valid.any()


def test_labels_are_the_same_under_64_bits(float64):
    assert class_labels(BEYOND["int64"]).tolist() == [LARGEST, -1, 1]
    assert class_labels(jnp.asarray(BEYOND["int64"])).tolist() == [LARGEST, -1, 1]


@pytest.mark.parametrize("classes", [128, 300, 40_000])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_narrow_labels_do_not_bound_the_number_of_classes(classes, dtype):
    labels, logits = np.array([0, 3, 127, -1]).astype(dtype), np.zeros((4, classes), np.float32)
    real = np.array([True, True, True, False])
    losses = weighted_softmax_cross_entropy(logits, labels, np.ones(classes, np.float32), where=real)
    np.testing.assert_allclose(losses[:3], np.log(classes), rtol=1e-6)
    top = confusion.update(confusion.init_top(classes, 2), labels, labels, where=real)
    assert np.flatnonzero(top.correct).tolist() == [0, 3, 127]
    if classes < 1000:
        counts = confusion.update(confusion.init(classes), labels, labels, where=real)
        assert np.argwhere(np.asarray(counts)).tolist() == [[0, 0], [3, 3], [127, 127]]
        pairs = jnp.ones((classes, classes))
        assert confusion_weighted_logits(logits, labels, pairs).shape == logits.shape
        triplets = sample_triplets(jax.random.key(0), np.r_[labels, labels], pairs, num_triplets=4)
        assert triplets.valid.all()


def test_rows_of_probabilities_that_are_not_finite_are_left_out(empty):
    probabilities = jnp.array([[0.5, 0.25, 0.25], [jnp.nan] * 3, [jnp.inf] * 3, [0.0, 0.5, 0.5]])
    counts = confusion.update(empty(3, jnp.float32), np.array([0, 0, 0, 1]), probabilities)
    expected = [[0.5, 0.25, 0.25], [0, 0.5, 0.5], [0, 0, 0]]
    assert matrix_of(counts).tolist() == expected
    assert np.isfinite(confusion.class_weights(counts)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_counts_that_are_not_finite_do_not_pass_for_no_errors(bad):
    for counts in (np.float32([[1, bad], [1, 3]]), np.full((2, 2), bad, np.float32)):
        assert np.isnan(confusion.class_weights(counts)).any()
        assert np.isnan(confusion.pair_weights(counts)).any()


def test_counts_beyond_int32_stay_at_its_limit_where_they_would_wrap():
    counts = np.array([[2**40, 2**39], [1, 5]])
    updated = confusion.update(counts, np.array([1]), np.array([0]))
    assert updated.tolist() == [[LARGEST, LARGEST], [2, 5]]


@pytest.mark.usefixtures("unchecked_shapes")
def test_lists_of_labels_are_read_as_arrays_of_them_are():
    counts = confusion.update(confusion.init(2), [2**32 + 1, 1], [0, 1])
    assert counts.tolist() == [[0, 0], [0, 1]]
