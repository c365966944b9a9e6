"""Terms of other systems against oracles written out, and under masks, transformations and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, PartitionSpec

from cdml_jax.losses import masked_mean
from cdml_jax.models.small_resnet import Block
from cdml_jax.models.spec import Spec
from cdml_jax.regularizers import (
    channel_groups,
    class_aware_attention,
    halves,
    kept_channels,
    mutual_channel_loss,
    pairwise_confusion,
    prediction_change,
    probability_distances,
    soft_mined_contrastive_loss,
)

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


mutual = jax.jit(mutual_channel_loss, static_argnames="num_classes")
mined = jax.jit(soft_mined_contrastive_loss)

# Four channels of two positions, two of each class.
CHANNELS = np.array([[0, np.log(3)], [np.log(3), 0], [0, 0], [0, 0]])


def key_that_keeps(wanted):
    """A key whose mask is the wanted one: masks are drawn, so some key has it."""
    keys = jax.random.split(jax.random.key(0), 200)
    kept = jax.vmap(lambda key: kept_channels(key, len(wanted), num_classes=2))(keys)
    return keys[int(np.flatnonzero((np.asarray(kept) == wanted).all(axis=1))[0])]


def test_the_published_mutual_channel_loss(float64):
    key = key_that_keeps([True, False, True, False])
    maps = np.stack([CHANNELS.T.reshape(1, 2, 4)] * 2)
    discriminality, diversity = mutual(key, maps, np.array([0, 1]), num_classes=2)
    np.testing.assert_allclose(discriminality, [0.4557463944083261, 1.005052538742381], rtol=1e-14)
    np.testing.assert_allclose(diversity, [0.625, 0.625], rtol=1e-14)
    np.testing.assert_allclose(0.005 * (discriminality - 10 * diversity)[0], -0.02897126802795837, rtol=1e-12)


def mutual_by_hand(kept, maps, labels, num_classes):
    """Loops over rows, classes, channels and positions in float64."""
    rows, channels = len(maps), maps.shape[-1]
    q, larger = divmod(channels, num_classes)
    sizes = [q] * (num_classes - larger) + [q + 1] * larger
    dis, div = np.zeros(rows), np.zeros(rows)
    for b in range(rows):
        flat = np.float64(maps[b]).reshape(-1, channels)
        scores, spread, k = [], [], 0
        for size in sizes:
            best, place = [], []
            for p in range(len(flat)):
                best.append(max(flat[p, c] * kept[c] for c in range(k, k + size)))
                softmax = [np.exp(flat[p, c]) / np.exp(flat[:, c]).sum() for c in range(k, k + size)]
                place.append(max(softmax))
            scores.append(np.mean(best))
            spread.append(np.sum(place) / size)
            k += size
        dis[b] = np.log(np.exp(scores).sum()) - scores[labels[b]]
        div[b] = np.mean(spread)
    return dis, div


@pytest.fixture
def maps():
    """Eleven channels of four classes: three of two sizes, one of three, and no ReLU before."""
    rng = np.random.default_rng(4)
    return rng.normal(0, 1.5, (5, 3, 2, 11)), rng.integers(0, 4, 5).astype(np.int32)


def test_mutual_channels_are_those_of_loops(maps, float64):
    features, labels = maps
    key = jax.random.key(3)
    kept = np.asarray(kept_channels(key, 11, num_classes=4))
    found = mutual(key, features, labels, num_classes=4)
    for ours, theirs in zip(found, mutual_by_hand(kept, features, labels, 4), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert channel_groups(11, 4) == ((1, 2), (3, 3))


def test_masks_leave_half_of_each_class_and_every_channel_now_and_then():
    keys = jax.random.split(jax.random.key(0), 100)
    kept = np.asarray(jax.jit(jax.vmap(lambda key: kept_channels(key, 11, num_classes=4)))(keys))
    for own, left in ((slice(0, 2), 1), (slice(2, 5), 2), (slice(5, 8), 2), (slice(8, 11), 2)):
        assert (kept[:, own].sum(axis=1) == left).all()
    share = kept.mean(axis=0)
    assert (np.abs(share - np.repeat([1 / 2, 2 / 3], [2, 9])) < 0.2).all()


def test_mutual_channels_do_not_know_places_and_padding(maps):
    features, labels = (np.float32(maps[0]), maps[1])
    key, where = jax.random.key(1), np.array([True, False, True, True, False])

    everybody = np.ones(5, bool)

    def both(features, labels=labels, where=everybody):
        return np.stack(mutual(key, features, labels, num_classes=4, where=where))

    whole = both(features)
    np.testing.assert_allclose(both(features[:, ::-1, [1, 0]]), whole, rtol=1e-5)
    # A constant added to a channel moves its scores, and not where it looks.
    np.testing.assert_allclose(both(features + np.arange(11, dtype=np.float32))[1], whole[1], rtol=1e-5)
    # The channels of one class in another order look at the same places: those of the third class.
    order = [0, 1, 2, 3, 4, 7, 5, 6, 8, 9, 10]
    np.testing.assert_allclose(both(features[..., order])[1], whole[1], rtol=1e-6)
    rubbish = np.where(where[:, None, None, None], features, np.nan)
    wrong = np.where(where, labels, -1).astype(np.int32)
    np.testing.assert_allclose(both(rubbish, wrong, where), whole * where, rtol=1e-6)
    gradient = jax.jit(
        jax.grad(lambda maps: sum(map(jnp.sum, mutual(key, maps, wrong, num_classes=4, where=where))))
    )(rubbish)
    assert (np.abs(gradient).sum(axis=(1, 2, 3)) > 0).tolist() == where.tolist()
    np.testing.assert_allclose(
        both(np.float32(jnp.bfloat16(features))), both(jnp.bfloat16(features)), rtol=1e-6
    )


def test_channels_that_look_alike_have_the_least_diversity_and_apart_the_most():
    alike = np.ones((1, 2, 3, 6), np.float32) * np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    apart = np.zeros((1, 2, 3, 6), np.float32)
    for channel in range(6):
        apart[0].reshape(6, 6)[channel, channel] = 40
    for maps, expected in ((alike, 1 / 3), (apart, 1.0)):
        _, diversity = mutual(jax.random.key(0), maps, np.array([1]), num_classes=2)
        np.testing.assert_allclose(diversity, [expected], rtol=1e-6)


@pytest.mark.usefixtures("unchecked_shapes")
def test_too_many_classes_for_the_channels_are_refused():
    with pytest.raises(ValueError, match="7 channels are fewer than two for each of 4 classes"):
        channel_groups(7, 4)
    with pytest.raises(ValueError, match=r"labels: shape \(2,\) does not fit a map"):
        mutual_channel_loss(jax.random.key(0), np.zeros((3, 2, 2, 8)), np.array([0, 1]), num_classes=2)


# Five embeddings of length 1, three images of one class and two of another; what the classifier says of each.
ROWS = np.array([[1, 0], [0.8, 0.6], [-0.6, 0.8], [0, 1], [0.352, 0.936]])
OWN = np.array([0.9, 0.6, 0.1, 0.8, 0.5])
PAIRED = np.array([0, 0, 0, 1, 1], np.int32)


def logits_of(own):
    return np.log(np.where(np.arange(2) == PAIRED[:, None], own[:, None], 1 - own[:, None]))


def mined_by_hand(rows, labels, attention, where, sigma=0.8, margin=1.2):
    """Loops over pairs i < j in float64: the two halves of the loss."""
    sums = np.zeros((2, 2))
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            if not (where[i] and where[j]):
                continue
            d = np.sqrt(((rows[i] - rows[j]) ** 2).sum())
            fits = min(attention[i], attention[j])
            if labels[i] == labels[j]:
                weight = np.exp(-(d**2) / (2 * sigma**2)) * fits
                sums[0] += weight * d**2, weight
            else:
                weight = max(0, margin - d) * fits
                sums[1] += weight * max(0, margin - d) ** 2, weight
    return [total / weight / 2 if weight else 0.0 for total, weight in sums]


def test_the_attention_is_that_of_the_paper(float64):
    attention = class_aware_attention(logits_of(OWN), PAIRED)
    expected = [0.9892451032, 0.8411288834, 0.4165015683, 0.9576694568, 0.7631285977]
    np.testing.assert_allclose(attention, expected, rtol=1e-9)


def test_the_soft_mined_loss_and_its_gradient(float64):
    attention = class_aware_attention(logits_of(OWN), PAIRED)
    everybody = np.ones(5, bool)
    halves = mined_by_hand(ROWS, PAIRED, np.asarray(attention), everybody)
    np.testing.assert_allclose(halves, [0.21667228544449, 0.1356326862652507], rtol=1e-10)

    def loss(rows, attention):
        return soft_mined_contrastive_loss(rows, PAIRED, attention)

    value, (of_rows, of_attention) = jax.jit(jax.value_and_grad(loss, (0, 1)))(ROWS, attention)
    np.testing.assert_allclose(value, 0.17615248585487037, rtol=1e-12)
    np.testing.assert_allclose(of_rows[0], [0.06154412, -0.13786426], atol=1e-8)
    np.testing.assert_array_equal(of_attention, 0)
    # All attention alike, and a kernel of d² / σ² without the 2: another form of the field's.
    alike = mined(ROWS, PAIRED, jnp.ones(5), sigma=0.8 / np.sqrt(2))
    np.testing.assert_allclose(alike, 0.14342302004811802, rtol=1e-12)
    # An outlier spoils its pairs: without the third image's, the pairs of its class are nearer.
    assert halves[0] < mined_by_hand(ROWS, PAIRED, np.ones(5), everybody)[0]


def test_soft_mining_is_that_of_loops_whatever_the_padding(float64):
    rng = np.random.default_rng(8)
    rows = rng.normal(0, 1, (9, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[4] = rows[1]  # of another class, at no distance: the root of 0 is differentiated
    labels = np.array([0, 0, 1, 1, 2, 2, 0, 1, 0], np.int32)
    attention = rng.uniform(0.2, 1, 9)
    where = np.arange(9) != 6

    loss = jax.jit(jax.value_and_grad(functools.partial(soft_mined_contrastive_loss, where=where)))
    value, gradient = loss(rows, labels, attention)
    expected = sum(mined_by_hand(rows, labels, attention, where)) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-7)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[6], 0)
    rubbish = rows.copy()
    rubbish[6] = np.nan
    spoilt = np.where(where, attention, np.nan)
    for ours, theirs in zip(loss(rubbish, labels, spoilt), (value, gradient), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    order = rng.permutation(9)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    permuted = mined((rows @ turn)[order], labels[order], 3 * attention[order], where=where[order])
    np.testing.assert_allclose(permuted, value, rtol=1e-7)
    assert mined(jnp.bfloat16(rows), labels, np.float32(attention)).dtype == jnp.float32
    for none in (np.zeros(9, np.int32), np.arange(9, dtype=np.int32)):
        alone = mined(rows, none, attention, where=where)
        assert np.isfinite(alone)
        assert alone >= 0
    assert mined(rows[:1], labels[:1], attention[:1]) == 0


def test_predictions_change_in_one_direction(float64):
    before, now = np.array([[0.7, 0.2, 0.1]]), np.array([[0.1, 0.8, 0.1]])
    for q, p, expected in (
        (before, now, 1.886696785),
        (now, before, 1.553476333),
        (before, before, 0.8018185525),
        (0 * before, now, 0.0),
    ):
        np.testing.assert_allclose(prediction_change(q, np.log(p) + 5), [expected], atol=1e-9)


def test_mutual_channels_have_a_gradient_where_the_compiler_computes_the_map_twice():
    """Fused with what makes the map, the largest channel is not sought among values rounded again."""
    block = Block(64, 128, 2, Spec(num_classes=16), nnx.Rngs(0))
    graph, parameters = nnx.split(block)
    inputs = np.random.default_rng(0).uniform(0, 2, (8, 4, 4, 64)).astype(np.float32)

    def loss(inputs, parameters):
        maps = nnx.merge(graph, parameters)(inputs, train=True)
        return mutual(jax.random.key(1), maps, np.arange(8), num_classes=16)[0].sum()

    assert np.isfinite(jax.jit(jax.grad(loss))(inputs, nnx.as_pure(parameters))).all()


def test_a_batch_of_no_rows_has_no_values():
    none, maps = np.zeros(0, np.int32), np.zeros((0, 3, 3, 8), np.float32)
    values = mutual(jax.random.key(0), maps, none, num_classes=4)
    assert [part.shape for part in values] == [(0,), (0,)]
    assert [float(masked_mean(part, jnp.ones(0, bool))) for part in values] == [0, 0]


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, y, one: soft_mined_contrastive_loss(x, y[:1], one), "labels"),
        (lambda x, y, one: soft_mined_contrastive_loss(x[0], y, one), "labels"),
        (lambda x, y, one: soft_mined_contrastive_loss(x, y, one[:, None]), "attention"),
        (lambda x, y, one: soft_mined_contrastive_loss(x, y, 1.0), "attention"),
        (lambda x, y, one: soft_mined_contrastive_loss(x, y, one, where=np.ones(1, bool)), "where"),
        (lambda x, y, one: class_aware_attention(x, y[:1]), "labels"),
        (lambda x, y, one: class_aware_attention(x[0], y), "labels"),
        (lambda x, y, one: prediction_change(x[:1], x), "before"),
        (lambda x, y, one: prediction_change(x[0], x[0]), "before"),
        (lambda x, y, one: pairwise_confusion(x, y, where=np.ones(1, bool)), "where"),
        (
            lambda x, y, one: mutual_channel_loss(
                jax.random.key(0), x[:, None, None], y, num_classes=2, where=np.ones(1, bool)
            ),
            "where",
        ),
        (lambda x, y, one: channel_groups(4, 0), "feature_map"),
    ],
)
def test_rows_that_would_be_broadcast_are_refused(call, name):
    rows = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call(rows, np.arange(4) // 2, np.ones(4, np.float32))


@pytest.mark.usefixtures("unchecked_shapes")
def test_classes_of_attention_are_integers():
    with pytest.raises(TypeError, match="labels: classes are integers"):
        class_aware_attention(np.ones((2, 3), np.float32), np.ones(2, np.float32))
