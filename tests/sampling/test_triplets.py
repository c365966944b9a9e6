"""The law of the drawn triplets, and that no device or mask changes them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from cdml_jax import confusion, sample_triplets
from cdml_jax.confusion import ByClassPairWeights, TopPairWeights
from cdml_jax.confusion.draws import _compared, invert

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
            for form in (invert, _compared):  # TPUs have the second
                assert np.array_equal(form(jnp.asarray(cumulative), rows, jnp.asarray(targets)), expected)


@pytest.mark.usefixtures("unchecked_shapes")
def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="integers"):
        sample_triplets(jax.random.key(0), jnp.ones(3), jnp.ones((2, 2)), num_triplets=1)


def top_of(weights, k, rest):
    """The k largest of each row, more than `rest`, and the matrix that they stand for."""
    weights = weights * (1 - np.eye(len(weights)))
    indices = np.argsort(-weights, axis=1, kind="stable")[:, :k].astype(np.int32)
    excess = np.take_along_axis(weights, indices, axis=1).astype(np.float32)
    indices = np.where(excess > 0, indices, -1)
    matrix = np.full(weights.shape, rest)
    for i, k in zip(*np.nonzero(indices >= 0)):
        matrix[i, indices[i, k]] += excess[i, k]
    return TopPairWeights(indices, excess, np.full(len(weights), rest, np.float32)), matrix


draw_top = jax.jit(sample_triplets, static_argnames="num_triplets")


@pytest.mark.parametrize("classes", [5, 40], ids=["fewer classes than rows", "more classes than rows"])
@pytest.mark.parametrize(("k", "rest"), [(2, 0.0), (1, 0.3), (4, 1.5)])
def test_top_pairs_have_the_law_of_their_matrix(classes, k, rest):
    labels, weights = (LABELS, WEIGHTS) if classes == 5 else permuted(classes)
    top, matrix = top_of(weights, k, rest)
    triplets = draw_top(jax.random.key(1), labels, top, num_triplets=100_000)
    observed = np.zeros((classes, classes))
    np.add.at(observed, (labels[triplets.anchor], labels[triplets.negative]), 1)
    assert g_test(observed, served_law(labels, matrix)) > 1e-3
    assert (labels[triplets.anchor] == labels[triplets.positive]).all()
    assert (np.asarray(triplets.anchor) != np.asarray(triplets.positive)).all()


def test_complete_counters_draw_pairs_as_the_matrix_of_counts_does():
    counts = np.random.default_rng(4).integers(0, 30, (5, 5))
    true, called = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices((5, 5)))
    top = confusion.pair_weights(confusion.update(confusion.init_top(5, 4), true, called))
    triplets = draw_top(jax.random.key(2), LABELS, top, num_triplets=100_000)
    observed = np.zeros((5, 5))
    np.add.at(observed, (LABELS[triplets.anchor], LABELS[triplets.negative]), 1)
    law = served_law(LABELS, np.float64(confusion.pair_weights(jnp.asarray(counts))))
    assert g_test(observed, law) > 1e-3


@pytest.mark.parametrize(
    ("labels", "rest"),
    [([0, 0, 0], 1.0), ([0, 1, 2], 1.0), ([0, 0, 1, 1], 0.0), ([-1, 7], 1.0), ([2], 1.0)],
    ids=["one class", "no positive", "zero weights", "no class", "one row"],
)
def test_nothing_to_draw_from_top_pairs_is_said(labels, rest):
    top = TopPairWeights(np.full((3, 2), -1, np.int32), np.zeros((3, 2), np.float32), np.float32([rest] * 3))
    triplets = draw_top(jax.random.key(0), np.array(labels), top, num_triplets=16)
    assert not triplets.valid.any()
    assert all((rows == 0).all() for rows in triplets[:3])


@pytest.mark.parametrize("devices", [2, 8])
def test_draws_from_top_pairs_do_not_depend_on_how_arrays_are_sharded(devices):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, 64).astype(np.int32)
    top, _ = top_of(rng.random((304, 304)) ** 4, 8, 0.01)
    expected = draw_top(jax.random.key(0), labels, top, num_triplets=512)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    split = NamedSharding(mesh, PartitionSpec("data"))
    sharded = draw_top(jax.random.key(0), *jax.device_put((labels, top), split), num_triplets=512)
    assert all(np.array_equal(a, b) for a, b in zip(sharded, expected))


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_rows_split_over_devices_give_the_same_draws_and_stay_where_they_are(devices):
    rng = np.random.default_rng(0)
    classes, batch, number = 299, 48, 512
    labels = jnp.asarray(rng.integers(0, 60, batch), jnp.int32)
    weights = jnp.asarray(rng.random((classes, classes)) ** 4, jnp.float32)
    where = jnp.arange(batch) % 7 > 0
    expected = sample_triplets(jax.random.key(0), labels, weights, num_triplets=number, where=where)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    rows, whole = PartitionSpec("data"), PartitionSpec()

    def draws(key, labels, weights, where):
        pairs = ByClassPairWeights(weights, "data")
        return sample_triplets(key, labels, pairs, num_triplets=number, where=where)

    mapped = jax.jit(jax.shard_map(draws, mesh=mesh, in_specs=(whole, whole, rows, whole), out_specs=whole))
    padded = jnp.pad(weights, ((0, -classes % devices), (0, 0)))
    padded = jax.device_put(padded, NamedSharding(mesh, rows))
    arguments = jax.random.key(0), labels, padded, where
    assert all(np.array_equal(a, b) for a, b in zip(mapped(*arguments), expected))
    if devices > 1:
        text = mapped.lower(*arguments).compile().as_text()
        collectives = re.findall(r"= (\S+) (?:all-|reduce-scatter|collective-)\S*\(", text)
        assert collectives == [f"f32[{batch},{batch}]{{1,0}}"]


def test_memory_of_top_pairs_is_that_of_the_classes_present():
    batch, classes, k, number = 512, 100_000, 8, 2048
    top = jax.eval_shape(lambda: confusion.pair_weights(confusion.init_top(classes, k)))
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    lowered = draw_top.lower(jax.eval_shape(lambda: jax.random.key(0)), labels, top, num_triplets=number)
    temporary = lowered.compile().memory_analysis().temp_size_in_bytes
    assert temporary < 40 * (batch * k + number) * 4 < batch * batch * 4
