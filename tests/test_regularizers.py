"""Terms of other systems against oracles written out, and under masks, transformations and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from cdml_jax.regularizers import halves, pairwise_confusion, probability_distances

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1]])
LABELS = np.array([0, 1, 1, 1], np.int32)


def by_hand(logits, labels, where):
    """Loops in float64."""
    logits, half = np.float64(logits), len(labels) // 2
    values, valid = np.zeros(half), np.zeros(half, bool)
    for i in range(half):
        j = i + half
        if where[i] and where[j] and labels[i] != labels[j]:
            p, q = (np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in (logits[i], logits[j]))
            values[i], valid[i] = ((p - q) ** 2).sum(), True
    return values, valid


@pytest.fixture
def batch():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (11, 4)).astype(np.float32)
    labels = rng.integers(0, 3, 11).astype(np.int32)
    where = np.arange(11) % 4 != 3
    return logits, labels, where


def test_the_published_example():
    values, valid = pairwise_confusion(jnp.log(P), LABELS)
    np.testing.assert_allclose(values, [0.38, 0], rtol=1e-6)
    assert valid.tolist() == [True, False]


def test_the_published_gradient():
    def loss(logits):
        values, valid = pairwise_confusion(logits, LABELS)
        return values.sum() / valid.sum()

    gradient = jax.grad(loss)(jnp.log(jnp.float32(P)))
    np.testing.assert_allclose(gradient[0], [0.322, -0.228, -0.094], atol=1e-6)
    np.testing.assert_allclose(gradient[jnp.array([1, 3])], 0, atol=1e-7)


def test_values_are_those_of_loops(batch):
    logits, labels, where = batch
    values, valid = pairwise_confusion(logits, labels, where=where)
    expected, expected_valid = by_hand(logits, labels, where)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_array_equal(valid, expected_valid)
    assert 0 < valid.sum() < valid.size


def test_what_masked_rows_hold_changes_nothing(batch):
    logits, labels, where = batch

    def loss(logits, labels):
        return pairwise_confusion(logits, labels, where=where)[0].sum()

    rubbish = np.where(where[:, None], logits, np.nan)
    wrong = np.where(where, labels, -7).astype(np.int32)
    for ours, theirs in zip(
        jax.value_and_grad(loss)(rubbish, wrong), jax.value_and_grad(loss)(logits, labels), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_swapped_halves_permuted_classes_and_shifted_logits_give_the_same(batch):
    logits, labels, _ = (array[:10] for array in batch)
    values = pairwise_confusion(logits, labels)[0]
    swapped = np.roll(np.arange(10), 5)
    np.testing.assert_allclose(pairwise_confusion(logits[swapped], labels[swapped])[0], values, rtol=1e-5)
    np.testing.assert_allclose(pairwise_confusion(logits[:, [2, 0, 3, 1]], labels)[0], values, rtol=1e-5)
    shifted = logits + np.float32(3)
    np.testing.assert_allclose(pairwise_confusion(shifted, labels)[0], values, rtol=1e-4)


def test_bfloat16_is_raised_and_float64_stays(batch, float64):
    logits, labels, where = batch
    assert pairwise_confusion(jnp.bfloat16(logits), labels)[0].dtype == jnp.float32
    values = pairwise_confusion(np.float64(logits), labels, where=where)[0]
    assert values.dtype == jnp.float64
    np.testing.assert_allclose(values, by_hand(logits, labels, where)[0], rtol=1e-13)


def test_pairs_over_devices_are_those_of_one(batch):
    """Under shard_map each device has a batch of its own, under vmap each part."""
    logits, labels, where = (np.stack([array[:8]] * 4) for array in batch)
    logits = logits + np.arange(4, dtype=np.float32)[:, None, None] * logits
    expected = [pairwise_confusion(*part[:2], where=part[2])[0] for part in zip(logits, labels, where)]

    def values(logits, labels, where):
        return pairwise_confusion(logits, labels, where=where)[0]

    np.testing.assert_allclose(jax.vmap(values)(logits, labels, where), expected, rtol=1e-6)
    np.testing.assert_allclose(
        jax.pmap(values, devices=jax.devices()[:4])(logits, labels, where), expected, rtol=1e-6
    )
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    split = jax.shard_map(values, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec)
    joined = split(logits.reshape(32, -1), labels.ravel(), where.ravel())
    np.testing.assert_allclose(joined.reshape(4, -1), expected, rtol=1e-6)


def test_halves_of_microbatches_are_the_halves_of_the_batch():
    labels = np.arange(16) % 5
    first, second, _ = halves(jnp.asarray(labels))
    whole = set(zip(first.tolist(), second.tolist()))
    parts = np.arange(16).reshape(-1, 2).T
    found = [halves(jnp.asarray(labels[part])) for part in parts]
    of_parts = {(int(part[i]), int(part[j])) for part, (a, b, _) in zip(parts, found) for i, j in zip(a, b)}
    assert of_parts == whole


def test_pairs_that_are_not_valid_have_no_gradient():
    logits = jnp.array([[jnp.nan, 0.0], [1.0, 2.0]])
    loss = functools.partial(
        probability_distances, first=jnp.array([0]), second=jnp.array([1]), valid=jnp.array([False])
    )
    np.testing.assert_array_equal(jax.grad(lambda x: loss(x).sum())(logits), 0)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("labels", "error"), [(np.float32([0, 1]), TypeError), (np.int32([0, 1, 1]), ValueError)]
)
def test_labels_that_do_not_fit_are_refused(labels, error):
    with pytest.raises(error, match="labels"):
        pairwise_confusion(np.zeros((2, 3), np.float32), labels)
