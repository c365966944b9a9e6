"""Losses against float64 oracles, under masks, transformations and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from cdml_jax import confusion_triplet_loss, losses, masked_mean, sample_triplets
from cdml_jax.losses import confusion_weighted_logits, triplet_margin_loss, weighted_softmax_cross_entropy

pytestmark = pytest.mark.usefixtures("strict_shapes")

BATCH, CLASSES, SIZE = 16, 5, 7


@pytest.fixture
def batch():
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(BATCH, SIZE))
    return {
        "logits": rng.normal(size=(BATCH, CLASSES)) * 3,
        "labels": rng.choice(CLASSES, size=BATCH, p=[0.4, 0.3, 0.15, 0.1, 0.05]).astype(np.int32),
        "class_weights": np.array([0.2, 1.7, 0.0, 2.5, 0.6]),
        "embeddings": embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        "pair_weights": rng.random((CLASSES, CLASSES)) * (1 - np.eye(CLASSES)),
    }


def cross_entropy_oracle(logits, labels, class_weights, smoothing=0.0):
    values = []
    for row, label in zip(np.float64(logits), labels):
        log_probabilities = row - row.max() - np.log(np.exp(row - row.max()).sum())
        target = np.full(row.size, smoothing / row.size)
        target[label] += 1 - smoothing
        values.append(-class_weights[label] * (target * log_probabilities).sum())
    return np.array(values)


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_cross_entropy_is_the_weighted_one(batch, smoothing):
    logits, labels, weights = batch["logits"], batch["labels"], batch["class_weights"]
    ours = weighted_softmax_cross_entropy(
        jnp.float32(logits), labels, jnp.float32(weights), label_smoothing=smoothing
    )
    np.testing.assert_allclose(ours, cross_entropy_oracle(logits, labels, weights, smoothing), rtol=1e-5)


def test_cross_entropy_holds_for_large_logits(batch):
    logits = batch["logits"] * 1e4
    ours = weighted_softmax_cross_entropy(jnp.float32(logits), batch["labels"], jnp.ones(CLASSES))
    oracle = cross_entropy_oracle(logits, batch["labels"], np.ones(CLASSES))
    np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-2)


def test_cross_entropy_keeps_float64_and_raises_bfloat16(batch, float64):
    labels, weights = batch["labels"], jnp.asarray(batch["class_weights"])
    wide = weighted_softmax_cross_entropy(jnp.asarray(batch["logits"]), labels, weights)
    assert wide.dtype == jnp.float64
    np.testing.assert_allclose(
        wide, cross_entropy_oracle(batch["logits"], labels, batch["class_weights"]), rtol=1e-12
    )
    narrow = weighted_softmax_cross_entropy(
        jnp.asarray(batch["logits"], jnp.bfloat16), labels, weights.astype(jnp.bfloat16)
    )
    assert narrow.dtype == jnp.float32


def test_cross_entropy_of_a_label_that_is_no_class_is_nan():
    values = weighted_softmax_cross_entropy(jnp.zeros((3, 2)), jnp.array([-1, 1, 2]), jnp.ones(2))
    assert np.isnan(values).tolist() == [True, False, True]


def test_triplet_margin_loss(batch):
    a, p, n = (np.roll(batch["embeddings"], k, axis=0) for k in (0, 1, 5))
    oracle = np.maximum(0, ((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + 0.3)
    assert 0 < (oracle == 0).sum() < BATCH
    ours = triplet_margin_loss(jnp.float32(a), jnp.float32(p), jnp.float32(n), margin=0.3)
    np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-6)


def test_triplet_gradient_is_finite_where_all_three_are_equal():
    row = jnp.ones((1, 4))
    gradients = jax.grad(lambda *t: triplet_margin_loss(*t).sum(), argnums=(0, 1, 2))(row, row, row)
    assert all(np.all(np.asarray(g) == 0) for g in gradients)


def test_triplet_distances_are_not_rounded_by_matrix_products():
    a = jnp.full((1, 512), 0.125) + jnp.arange(512)[None] * 1e-5
    loss = triplet_margin_loss(a, a + 1e-4, a - 2e-4, margin=0.0)
    np.testing.assert_allclose(loss, 0.0, atol=0)
    loss = triplet_margin_loss(a, a - 2e-4, a + 1e-4, margin=0.0)
    np.testing.assert_allclose(loss, 512 * 3e-8, rtol=1e-2)


def test_confusion_triplet_loss_is_the_hinge_of_the_sampled_rows(batch):
    key, labels, pairs = jax.random.key(1), batch["labels"], jnp.float32(batch["pair_weights"])
    embeddings = jnp.float32(batch["embeddings"])
    values, valid = confusion_triplet_loss(key, embeddings, labels, pairs, num_triplets=40, margin=0.4)
    triplets = sample_triplets(key, labels, pairs, num_triplets=40)
    rows = [batch["embeddings"][np.asarray(r)] for r in triplets[:3]]
    oracle = np.maximum(0, ((rows[0] - rows[1]) ** 2).sum(1) - ((rows[0] - rows[2]) ** 2).sum(1) + 0.4)
    assert np.asarray(valid).all()
    np.testing.assert_allclose(values, oracle, rtol=1e-5, atol=1e-6)


def test_masked_mean_divides_by_what_counts():
    values = jnp.array([1.0, 5.0, jnp.nan, jnp.inf])
    assert float(masked_mean(values, jnp.array([True, True, False, False]))) == 3.0


def test_masked_mean_of_nothing_is_zero_with_zero_gradient():
    values = jnp.array([jnp.nan, 2.0])
    value, gradient = jax.value_and_grad(masked_mean)(values, jnp.zeros(2, bool))
    assert float(value) == 0.0
    assert np.asarray(gradient).tolist() == [0.0, 0.0]


def objective(arrays, labels, where, key=None, axis_name=None):
    """The joint objective as a user writes it; `arrays` are logits, embeddings."""
    logits, embeddings = arrays
    key = jax.random.key(5) if key is None else key
    weights = jnp.array([0.2, 1.7, 0.1, 2.5, 0.6])
    pairs = jnp.arange(25.0).reshape(5, 5)
    softmax = weighted_softmax_cross_entropy(logits, labels, weights, where=where)
    triplets, valid = confusion_triplet_loss(
        key, embeddings, labels, pairs, num_triplets=64, margin=0.5, where=where, axis_name=axis_name
    )
    if where is None:
        where = jnp.ones(labels.shape, bool)
    return masked_mean(softmax, where, axis_name=axis_name) + masked_mean(triplets, valid)


def test_padding_that_holds_garbage_changes_nothing(batch):
    real = (jnp.float32(batch["logits"]), jnp.float32(batch["embeddings"]))
    padded = tuple(jnp.concatenate([a, jnp.full((4, a.shape[1]), jnp.nan, a.dtype)]) for a in real)
    labels = jnp.concatenate([jnp.asarray(batch["labels"]), jnp.array([-1, 999, 0, 3])])
    where = jnp.arange(BATCH + 4) < BATCH
    value, gradients = jax.value_and_grad(objective)(padded, labels, where)
    expected, expected_gradients = jax.value_and_grad(objective)(real, jnp.asarray(batch["labels"]), None)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for ours, theirs in zip(gradients, expected_gradients):
        np.testing.assert_allclose(ours[:BATCH], theirs, rtol=1e-5, atol=1e-7)
        assert np.all(np.asarray(ours[BATCH:]) == 0)


def test_no_real_row_gives_zero_and_zero_gradients():
    arrays = (jnp.full((4, 5), jnp.nan), jnp.full((4, 3), jnp.nan))
    value, gradients = jax.value_and_grad(objective)(arrays, jnp.full(4, 77), jnp.zeros(4, bool))
    assert float(value) == 0.0
    assert all(np.all(np.asarray(g) == 0) for g in gradients)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["one class", "no positives"])
def test_no_triplet_gives_zero_and_zero_gradients(labels):
    def loss(embeddings):
        values, valid = confusion_triplet_loss(
            jax.random.key(0), embeddings, jnp.array(labels), jnp.ones((5, 5)), num_triplets=8
        )
        return masked_mean(values, valid), valid

    (value, valid), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.eye(4))
    assert not np.asarray(valid).any()
    assert float(value) == 0.0
    assert np.all(np.asarray(gradient) == 0)


def test_bfloat16_rows_are_computed_in_float32(batch):
    narrow = tuple(jnp.asarray(batch[k], jnp.bfloat16) for k in ("logits", "embeddings"))
    wide = tuple(a.astype(jnp.float32) for a in narrow)
    labels = jnp.asarray(batch["labels"])
    assert float(objective(narrow, labels, None)) == float(objective(wide, labels, None))


def test_jit_and_vmap_give_the_eager_values(batch):
    arrays = (jnp.float32(batch["logits"]), jnp.float32(batch["embeddings"]))
    labels = jnp.asarray(batch["labels"])
    keys = jax.random.split(jax.random.key(9), 3)
    eager = [float(objective(arrays, labels, None, key)) for key in keys]
    mapped = jax.jit(jax.vmap(lambda key: objective(arrays, labels, None, key)))(keys)
    np.testing.assert_allclose(mapped, eager, rtol=1e-6)


def test_weights_are_data_one_trace_serves_all(batch):
    traces = []

    @jax.jit
    def loss(logits, labels, weights):
        traces.append(1)
        return weighted_softmax_cross_entropy(logits, labels, weights)

    for scale in (0.0, 1.0, 7.5):
        loss(jnp.float32(batch["logits"]), batch["labels"], jnp.full(CLASSES, scale, jnp.float32))
    assert len(traces) == 1


def network(parameters, images, labels, where, axis_name=None):
    """A model with shared parameters, so that gradients must cross devices."""
    logits = images @ parameters["head"]
    embeddings = images @ parameters["embedding"]
    embeddings *= jax.lax.rsqrt(jnp.maximum((embeddings**2).sum(1, keepdims=True), 1e-12))
    return objective((logits, embeddings), labels, where, axis_name=axis_name)


@pytest.fixture
def replicated(batch):
    rng = np.random.default_rng(8)
    parameters = {
        "head": jnp.float32(rng.normal(size=(SIZE, CLASSES))),
        "embedding": jnp.float32(rng.normal(size=(SIZE, 4))),
    }
    # Uneven masks: devices then hold different numbers of real rows.
    where = jnp.array([True] * 9 + [False] + [True] * 3 + [False] * 3)
    images = jnp.float32(rng.normal(size=(BATCH, SIZE)))
    return parameters, images, jnp.asarray(batch["labels"]), where


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_pmap_with_pmean_is_the_gradient_on_one_device(replicated, devices):
    parameters, *rows = replicated
    expected = jax.value_and_grad(network)(parameters, *rows)

    @functools.partial(jax.pmap, axis_name="data", in_axes=(None, 0, 0, 0), devices=jax.devices()[:devices])
    def step(parameters, images, labels, where):
        value, gradients = jax.value_and_grad(network)(parameters, images, labels, where, "data")
        return value, jax.lax.pmean(gradients, "data")

    split = [row.reshape(devices, -1, *row.shape[1:]) for row in rows]
    value, gradients = step(parameters, *split)
    assert_close((value[0], jax.tree.map(lambda g: g[-1], gradients)), expected)


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_shard_map_with_pmean_is_the_gradient_on_one_device(replicated, devices, check):
    parameters, *rows = replicated
    expected = jax.value_and_grad(network)(parameters, *rows)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    split, whole = PartitionSpec("data"), PartitionSpec()

    @jax.jit
    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(whole, split, split, split), out_specs=whole, check_vma=check
    )
    def step(parameters, images, labels, where):
        value, gradients = jax.value_and_grad(network)(parameters, images, labels, where, "data")
        return value, jax.lax.pmean(gradients, "data")

    assert_close(step(parameters, *rows), expected)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_gradient_taken_outside_shard_map_is_right_too(replicated, devices):
    parameters, *rows = replicated
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    split, whole = PartitionSpec("data"), PartitionSpec()
    mapped = jax.shard_map(
        functools.partial(network, axis_name="data"),
        mesh=mesh,
        in_specs=(whole, split, split, split),
        out_specs=whole,
    )
    assert_close(
        jax.jit(jax.value_and_grad(mapped))(parameters, *rows),
        jax.value_and_grad(network)(parameters, *rows),
    )


@pytest.mark.parametrize("devices", [2, 8])
def test_triplets_returned_by_every_device_are_the_global_ones(batch, devices):
    key, pairs = jax.random.key(2), jnp.float32(batch["pair_weights"])
    embeddings, labels = jnp.float32(batch["embeddings"]), jnp.asarray(batch["labels"])
    expected, expected_valid = confusion_triplet_loss(key, embeddings, labels, pairs, num_triplets=32)
    mapped = jax.pmap(
        lambda e, y: confusion_triplet_loss(key, e, y, pairs, num_triplets=32, axis_name="data"),
        axis_name="data",
        devices=jax.devices()[:devices],
    )
    values, valid = mapped(embeddings.reshape(devices, -1, SIZE), labels.reshape(devices, -1))
    for device in range(devices):
        np.testing.assert_allclose(values[device], expected, rtol=1e-5, atol=1e-6)
        assert (np.asarray(valid[device]) == np.asarray(expected_valid)).all()


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: weighted_softmax_cross_entropy(jnp.ones((2, 3)), jnp.ones(2), jnp.ones(3)),
            TypeError,
            "int",
        ),
        (
            lambda: weighted_softmax_cross_entropy(jnp.ones((2, 3)), jnp.array([0, 1]), jnp.ones(2)),
            ValueError,
            "class_weights",
        ),
        (
            lambda: weighted_softmax_cross_entropy(jnp.ones((2, 3)), jnp.array([0, 1, 2]), jnp.ones(3)),
            ValueError,
            "labels",
        ),
        (
            lambda: triplet_margin_loss(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.ones((1, 3))),
            ValueError,
            "differ",
        ),
        (lambda: masked_mean(jnp.ones(3), jnp.ones(2, bool)), ValueError, "shape"),
        (
            lambda: losses.confusion_triplet_loss(
                jax.random.key(0), jnp.ones((3, 2)), jnp.arange(3), jnp.ones((2, 3)), num_triplets=2
            ),
            ValueError,
            "square",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
def test_confusion_weighted_logits_give_the_loss_as_it_is_written(batch, beta):
    logits, labels = batch["logits"], batch["labels"]
    pairs = batch["pair_weights"] / batch["pair_weights"].sum()
    adjusted = confusion_weighted_logits(
        jnp.float32(logits), jnp.asarray(labels), jnp.float32(pairs), beta=beta
    )
    values = weighted_softmax_cross_entropy(adjusted, jnp.asarray(labels), jnp.ones(CLASSES))
    expected = []
    for row, label in zip(logits, labels):
        others = sum(
            (1 + beta * CLASSES * pairs[label, j]) * np.exp(row[j]) for j in range(CLASSES) if j != label
        )
        expected.append(-np.log(np.exp(row[label]) / (np.exp(row[label]) + others)))
    np.testing.assert_allclose(values, expected, rtol=2e-5)


def test_confusion_weighted_logits_send_no_gradient_to_the_pair_weights(batch):
    def loss(pairs):
        return confusion_weighted_logits(
            jnp.float32(batch["logits"]), jnp.asarray(batch["labels"]), pairs
        ).sum()

    assert not jax.grad(loss)(jnp.float32(batch["pair_weights"])).any()


@pytest.mark.usefixtures("unchecked_shapes")
def test_confusion_weighted_logits_refuse_pair_weights_of_other_classes(batch):
    with pytest.raises(ValueError, match="pair_weights"):
        confusion_weighted_logits(
            jnp.float32(batch["logits"]), jnp.asarray(batch["labels"]), jnp.ones((CLASSES, CLASSES + 1))
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_factor(gamma):
    cross_entropy = np.array([1e-6, 0.3, 1.0, 9.0])
    expected = (1 - np.exp(-cross_entropy)) ** gamma
    np.testing.assert_allclose(losses.focal_factor(jnp.float32(cross_entropy), gamma), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_at_a_certain_answer(gamma):
    assert np.isfinite(jax.grad(lambda x: losses.focal_factor(x, gamma).sum())(jnp.array([0.0, 50.0]))).all()
