"""The law of the drawn triplets, and that no device or mask changes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from cdml_jax import sample_triplets
from cdml_jax.sampling import _invert

pytestmark = pytest.mark.usefixtures("strict_shapes")

LABELS = np.array(
    [0] * 2 + [1] * 9 + [2] + [3] * 4
)  # unequal sizes; class 2 cannot be an anchor, 4 is absent
WEIGHTS = np.array(
    [
        [9.0, 1.0, 4.0, 0.5, 7.0],
        [2.0, 9.0, 0.0, 1.0, 3.0],
        [5.0, 5.0, 9.0, 5.0, 5.0],
        [0.1, 3.0, 2.0, 9.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 9.0],
    ]
)


def served_law(labels, weights):
    sizes = np.bincount(labels, minlength=len(weights))
    law = weights * (1 - np.eye(len(weights))) * (sizes >= 2)[:, None] * (sizes >= 1)[None, :]
    return law / law.sum()


def draw(labels, weights, number, where=None, seed=0):
    triplets = sample_triplets(
        jax.random.key(seed), jnp.asarray(labels), jnp.float32(weights), num_triplets=number, where=where
    )
    return jax.tree.map(np.asarray, triplets)


def g_test(observed, law):
    """p of the likelihood-ratio test, over the cells that the law allows."""
    allowed = law > 0
    assert observed[~allowed].sum() == 0
    return stats.power_divergence(
        observed[allowed], law[allowed] * observed.sum(), lambda_="log-likelihood"
    ).pvalue


def permuted(classes):
    """The same weights, spread over more classes than the batch has rows."""
    names = np.array([0, 17, 21, 30, 39]) % classes
    weights = np.zeros((classes, classes))
    weights[np.ix_(names, names)] = WEIGHTS
    return names[LABELS], weights


@pytest.mark.parametrize("classes", [5, 40], ids=["fewer classes than rows", "more classes than rows"])
def test_class_pairs_follow_the_pair_weights_whatever_the_class_sizes(classes):
    labels, weights = (LABELS, WEIGHTS) if classes == 5 else permuted(classes)
    triplets = draw(labels, weights, 100_000)
    observed = np.zeros((classes, classes))
    np.add.at(observed, (labels[triplets.anchor], labels[triplets.negative]), 1)
    assert g_test(observed, served_law(labels, weights)) > 1e-3


def test_rows_are_uniform_inside_their_classes():
    triplets = draw(LABELS, WEIGHTS, 60_000)
    inside = LABELS[triplets.anchor] == 1
    pairs = np.zeros((len(LABELS), len(LABELS)))
    np.add.at(pairs, (triplets.anchor[inside], triplets.positive[inside]), 1)
    rows = np.flatnonzero(LABELS == 1)
    law = np.zeros_like(pairs)
    law[np.ix_(rows, rows)] = 1 - np.eye(rows.size)
    assert g_test(pairs, law / law.sum()) > 1e-3
    negatives = np.bincount(triplets.negative[LABELS[triplets.negative] == 3], minlength=len(LABELS))
    law = (LABELS == 3) / (LABELS == 3).sum()
    assert g_test(negatives, law) > 1e-3


def test_triplets_are_triplets():
    triplets = draw(LABELS, WEIGHTS, 5_000)
    assert triplets.valid.all()
    assert (LABELS[triplets.anchor] == LABELS[triplets.positive]).all()
    assert (triplets.anchor != triplets.positive).all()
    assert (LABELS[triplets.anchor] != LABELS[triplets.negative]).all()


def test_weights_of_any_scale_and_spread_are_served():
    law = np.array([[0, 1.0, 1e-6], [1e-3, 0, 1e-6], [1e-6, 1e-6, 0]])
    labels = np.repeat(np.arange(3), 3)
    for scale in (1e-30, 1.0, 1e30):
        triplets = draw(labels, law * scale, 200_000)
        rare = ((labels[triplets.anchor] == 1) & (labels[triplets.negative] == 0)).sum()
        assert stats.binomtest(int(rare), 200_000, 1e-3 / law.sum()).pvalue > 1e-4
        assert triplets.valid.all()


def test_padding_is_never_drawn_and_changes_no_law():
    labels = np.concatenate([LABELS, [-1, 999, 1, 4]])
    where = jnp.arange(labels.size) < LABELS.size
    padded, plain = draw(labels, WEIGHTS, 2_000, where), draw(LABELS, WEIGHTS, 2_000)
    assert all(np.array_equal(a, b) for a, b in zip(padded, plain))


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        ([0, 0, 0], np.ones((3, 3))),
        ([0, 1, 2], np.ones((3, 3))),
        ([0, 0, 1, 1], np.zeros((3, 3))),
        ([0, 0, 1, 1], np.eye(3)),
        ([-1, -1, 7, 7], np.ones((3, 3))),
        ([5], np.ones((9, 9))),
    ],
    ids=["one class", "no positive", "zero weights", "diagonal only", "no class", "one row"],
)
def test_nothing_to_draw_is_said(labels, weights):
    triplets = draw(np.array(labels), weights, 16)
    assert not triplets.valid.any()
    assert all((rows == 0).all() for rows in triplets[:3])


def test_one_trace_serves_all_weights_and_vmap_gives_each_its_own():
    traces = []

    @jax.jit
    def draws(key, weights):
        traces.append(1)
        return sample_triplets(key, jnp.asarray(LABELS), weights, num_triplets=64)

    key, scales = jax.random.key(3), jnp.array([1.0, 3.0])
    stack = jnp.float32(WEIGHTS)[None] * scales[:, None, None] ** jnp.arange(5.0)[None, :, None]
    single = [draws(key, weights) for weights in stack]
    assert len(traces) == 1
    together = jax.vmap(lambda w: sample_triplets(key, jnp.asarray(LABELS), w, num_triplets=64))(stack)
    for k in range(2):
        assert np.array_equal(together.negative[k], single[k].negative)


@pytest.mark.parametrize("classes", [7, 300], ids=["dense", "sparse"])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_draws_do_not_depend_on_how_arrays_are_sharded(devices, classes):
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, classes, 64) // 3, jnp.int32)
    weights = jnp.asarray(rng.random((classes, classes)) ** 4, jnp.float32)
    expected = draw(labels, weights, 512)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    labels, weights = jax.device_put(labels, split), jax.device_put(weights, whole)
    sharded = jax.jit(lambda y, w: sample_triplets(jax.random.key(0), y, w, num_triplets=512))(
        labels, weights
    )
    assert all(np.array_equal(a, b) for a, b in zip(sharded, expected))


def test_memory_is_that_of_the_classes_present():
    def temporary_bytes(batch, classes, number):
        arguments = (
            jax.eval_shape(lambda: jax.random.key(0)),
            jax.ShapeDtypeStruct((batch,), jnp.int32),
            jax.ShapeDtypeStruct((classes, classes), jnp.float32),
        )
        compiled = (
            jax.jit(lambda k, y, w: sample_triplets(k, y, w, num_triplets=number)).lower(*arguments).compile()
        )
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(64, 2000, 256) < 40 * 64 * 64 * 4
    assert temporary_bytes(2000, 64, 8000) < 40 * (64 * 64 + 8000 + 2000) * 4


def test_the_inverse_of_a_distribution_function_never_gives_a_cell_without_weight():
    """A target on a step belongs to the cell after it; wrong by one, it shows once in 2^31 draws."""
    rng = np.random.default_rng(0)
    for columns in (1, 2, 3, 7, 8, 9):
        weights = rng.integers(0, 3, (5, columns)).astype(np.uint32)
        weights[:, -1] += 1
        cumulative = np.cumsum(weights, axis=1, dtype=np.uint32)
        for row in range(5):
            targets = np.arange(cumulative[row, -1])
            expected = np.searchsorted(cumulative[row], targets, side="right")
            rows = jnp.full(targets.size, row)
            assert np.array_equal(_invert(jnp.asarray(cumulative), rows, jnp.asarray(targets)), expected)


def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="integers"):
        sample_triplets(jax.random.key(0), jnp.ones(3), jnp.ones((2, 2)), num_triplets=1)
