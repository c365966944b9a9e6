"""Confusion statistics against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax import confusion

pytestmark = pytest.mark.usefixtures("strict_shapes")

COUNTS = np.array([[17, 3, 0, 0], [5, 1, 0, 0], [0, 0, 0, 0], [2, 1, 1, 36]])


def probabilities_oracle(counts, smoothing):
    """P of METHOD's first section, in float64, by loops."""
    counts = np.float64(counts)
    num_classes = len(counts)
    errors = [1 - counts[i, i] / counts[i].sum() for i in range(num_classes) if counts[i].sum() > 0]
    mean_error = np.mean(errors) if errors else 1 - 1 / num_classes
    result = np.empty_like(counts)
    for i in range(num_classes):
        for j in range(num_classes):
            prior = 1 - mean_error if i == j else mean_error / (num_classes - 1)
            denominator = counts[i].sum() + smoothing
            result[i, j] = (counts[i, j] + smoothing * prior) / denominator if denominator > 0 else prior
    return result


def test_hard_update_counts_rows_by_predictions():
    labels, predictions = np.array([0, 1, 1, 3, 3, 3]), np.array([0, 0, 1, 2, 3, 3])
    expected = np.zeros((4, 4), int)
    for i, j in zip(labels, predictions):
        expected[i, j] += 1
    counts = confusion.update(confusion.init(4), labels, predictions)
    assert counts.dtype == jnp.int32
    assert np.array_equal(counts, expected)


def test_soft_update_adds_probabilities():
    labels, probabilities = np.array([2, 0, 2]), np.random.default_rng(0).dirichlet(np.ones(4), 3)
    expected = np.zeros((4, 4))
    np.add.at(expected, labels, probabilities)
    counts = confusion.update(confusion.init(4, jnp.float32), labels, jnp.float32(probabilities))
    np.testing.assert_allclose(counts, expected, rtol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_padding_is_not_counted(soft):
    labels, where = jnp.array([1, -1, 999, 2]), jnp.array([True, False, False, True])
    predictions = (
        jnp.full((4, 3), jnp.nan).at[jnp.array([0, 3])].set(1 / 3) if soft else jnp.array([0, 7, -2, 2])
    )
    counts = confusion.update(confusion.init(3, jnp.float32), labels, predictions, where=where)
    assert np.asarray(counts).sum() == pytest.approx(2)
    assert np.asarray(counts)[0].sum() == 0


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_cells_beyond_the_dtype_of_the_labels_are_counted(dtype):
    rng = np.random.default_rng(3)
    labels, predictions = rng.integers(0, 120, (2, 500)).astype(dtype)
    expected = np.zeros((120, 120))
    np.add.at(expected, (labels.astype(int), predictions.astype(int)), 1)
    np.testing.assert_array_equal(confusion.update(confusion.init(120), labels, predictions), expected)


def test_a_huge_prediction_is_left_out_and_not_wrapped_into_a_cell():
    # 2 * 3 + (2**31 - 1) wraps around in int32.
    labels, predictions = jnp.array([2, 2, 1]), jnp.array([2**31 - 1, 2**30, 1])
    counts = confusion.update(confusion.init(3), labels, predictions)
    assert counts.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_first_rows_alone_of_a_larger_matrix_are_counted():
    counts = confusion.update(jnp.zeros((2, 5), int), jnp.array([1, 2, 0, -1]), jnp.array([4, 1, 3, 2]))
    assert counts.tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]


def test_rows_of_no_class_are_left_out():
    counts = confusion.update(confusion.init(3), jnp.array([-1, 3, 1, 1]), jnp.array([0, 0, -1, 2]))
    assert np.array_equal(counts, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("dtype", "labels", "predictions", "message"),
    [
        (jnp.int32, jnp.array([0]), jnp.array([[0.5, 0.5]]), "cannot hold probabilities"),
        (jnp.float32, jnp.array([0]), jnp.array([[1, 0]]), "floating"),
        (jnp.int32, jnp.array([0]), jnp.array([1.0]), "integers"),
        (jnp.int32, jnp.array([0.0]), jnp.array([1]), "integers"),
    ],
)
def test_what_would_vanish_raises(dtype, labels, predictions, message):
    with pytest.raises(TypeError, match=message):
        confusion.update(confusion.init(2, dtype), labels, predictions)


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("counts", [COUNTS, COUNTS * 0, COUNTS[::-1, ::-1] + 0.25])
def test_class_weights_are_the_error_rates(counts, smoothing):
    rates = 1 - np.diag(probabilities_oracle(counts, smoothing))
    weights = confusion.class_weights(jnp.asarray(counts), smoothing=smoothing, normalize=False)
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, rates, rtol=1e-5, atol=1e-7)
    normalized = confusion.class_weights(jnp.asarray(counts), smoothing=smoothing)
    np.testing.assert_allclose(normalized, rates / rates.mean(), rtol=1e-5)


def test_one_plus_rate_adds_beta_times_the_rate():
    rates = 1 - np.diag(probabilities_oracle(COUNTS, 1.0))
    weights = confusion.class_weights(jnp.asarray(COUNTS), mode="one_plus_rate", beta=3.0, normalize=False)
    np.testing.assert_allclose(weights, 1 + 3 * rates, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("counts", [COUNTS, COUNTS * 0, COUNTS[::-1, ::-1] + 0.25])
def test_pair_weights_are_shares_of_the_confusion(counts, symmetric, smoothing):
    expected = probabilities_oracle(counts, smoothing) * (1 - np.eye(4))
    expected = (expected + expected.T) / 2 if symmetric else expected
    weights = confusion.pair_weights(jnp.asarray(counts), smoothing=smoothing, symmetric=symmetric)
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-5, atol=1e-8)


def test_a_rare_error_keeps_its_digits():
    counts = jnp.array([[9_999_999, 1], [0, 10]])
    weights = confusion.class_weights(counts, smoothing=0.0, normalize=False)
    np.testing.assert_allclose(weights[0], 1e-7, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_no_errors_give_ones_and_uniform_pairs(smoothing):
    counts = jnp.diag(jnp.array([5, 9, 2]))
    assert confusion.class_weights(counts, smoothing=smoothing).tolist() == [1, 1, 1]
    assert confusion.class_weights(counts, smoothing=smoothing, normalize=False).tolist() == [0, 0, 0]
    pairs = confusion.pair_weights(counts, smoothing=smoothing)
    np.testing.assert_allclose(pairs, (1 - np.eye(3)) / 6, rtol=1e-6)


def test_class_size_alone_does_not_decide_the_smoothed_rate():
    counts = jnp.array([[80, 20, 0], [1, 4, 0], [1, 1, 8]])
    rates = np.asarray(confusion.class_weights(counts, smoothing=5.0, normalize=False))
    np.testing.assert_allclose(rates, 0.2, rtol=1e-6)


def test_classes_may_be_renamed():
    order = np.array([2, 0, 3, 1])
    renamed = jnp.asarray(COUNTS[np.ix_(order, order)])
    np.testing.assert_allclose(
        confusion.class_weights(renamed),
        np.asarray(confusion.class_weights(jnp.asarray(COUNTS)))[order],
        1e-6,
    )
    np.testing.assert_allclose(
        confusion.pair_weights(renamed),
        np.asarray(confusion.pair_weights(jnp.asarray(COUNTS)))[np.ix_(order, order)],
        rtol=1e-6,
    )


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="one_plus_rate"):
        confusion.class_weights(jnp.eye(2), mode="rates")


def quota_oracle(weights, number):
    weights = np.float64(weights)
    exact = number * weights / weights.sum()
    quota = np.floor(exact).astype(int)
    order = np.argsort(-(exact - quota).ravel(), kind="stable")[: number - quota.sum()]
    np.add.at(quota.ravel(), order, 1)
    return quota


@pytest.mark.parametrize("number", [1, 7, 256, 4099])
def test_quota_is_the_largest_remainder(number):
    weights = np.random.default_rng(4).integers(1, 1000, (5, 5)) * (1 - np.eye(5))
    quota = confusion.triplet_quota(jnp.float32(weights / weights.sum()), number)
    assert quota.dtype == jnp.int32
    assert np.array_equal(quota, quota_oracle(weights, number))


@pytest.mark.parametrize("number", [3, 1000, 1 << 22])
@pytest.mark.parametrize("classes", [2, 3, 60])
def test_quota_sums_exactly_and_gives_nothing_to_zero_pairs(number, classes):
    weights = np.random.default_rng(classes).random((classes, classes)) ** 8 * (1 - np.eye(classes))
    weights[0] = 0
    quota = np.asarray(confusion.triplet_quota(jnp.float32(weights), number))
    assert quota.sum() == number
    assert (quota >= 0).all()
    assert (quota[weights == 0] == 0).all()


def test_all_work_under_jit_and_trace_once():
    traces = []

    @jax.jit
    def derive(counts):
        traces.append(1)
        pairs = confusion.pair_weights(counts)
        return confusion.class_weights(counts), pairs, confusion.triplet_quota(pairs, 64)

    for counts in (COUNTS, COUNTS * 0, COUNTS.T):
        ours = derive(jnp.asarray(counts))
        np.testing.assert_allclose(ours[0], confusion.class_weights(jnp.asarray(counts)), rtol=1e-6)
        assert np.asarray(ours[2]).sum() == 64
    assert len(traces) == 1


@pytest.mark.parametrize("devices", [2, 8])
def test_counts_reduced_over_devices_are_those_of_the_whole(devices):
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 4, 32), rng.integers(0, 4, 32)
    whole = confusion.update(confusion.init(4), labels, predictions)
    mapped = jax.pmap(
        lambda y, p: confusion.reduce(confusion.update(confusion.init(4), y, p), "data"),
        axis_name="data",
        devices=jax.devices()[:devices],
    )
    split = mapped(labels.reshape(devices, -1), predictions.reshape(devices, -1))
    assert np.array_equal(split[-1], whole)
