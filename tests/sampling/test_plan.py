"""Plans of batches: coverage, composition, and the shares that they promise."""

import numpy as np
import pytest

from cdml_jax.confusion import TopPairWeights, as_pair_weights
from cdml_jax.sampling import composition_correction, expected_class_shares, plan_epoch
from cdml_jax.sampling.groups import draw_groups

LABELS = np.repeat(np.arange(6), [20, 5, 2, 11, 1, 24])
RATES = np.array([0.1, 0.6, 0.3, 0.05, 0.2, 0.4])
PAIRS = np.random.default_rng(2).random((6, 6)) ** 3 * (1 - np.eye(6))


def plan(seed=0, epoch=0, labels=LABELS, rates=RATES, pairs=PAIRS, **keywords):
    keywords = {"batch_size": 12, "composed": 0.5, "images_per_class": 3, "classes_per_group": 2} | keywords
    return plan_epoch(seed, epoch, labels, rates, pairs, **keywords)


@pytest.mark.parametrize("composed", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("batch_size", [12, 40, 63])
def test_shape_is_static_and_no_batch_repeats_an_image(composed, batch_size):
    for epoch in range(4):
        batches = plan(epoch=epoch, composed=composed, batch_size=batch_size)
        assert batches.shape == (-(-LABELS.size // batch_size), batch_size)
        assert batches.dtype == np.int32
        assert all(np.unique(batch).size == batch_size for batch in batches)
        assert batches.min() >= 0
        assert batches.max() < LABELS.size


@pytest.mark.parametrize("batch_size", [7, 12, 40, 62])
def test_the_uniform_stream_shows_every_image_equally_often(batch_size):
    shown = np.concatenate([plan(epoch=e, composed=0.0, batch_size=batch_size).ravel() for e in range(9)])
    times = np.bincount(shown, minlength=LABELS.size)
    assert times.max() - times.min() <= 1
    waits = np.diff(np.flatnonzero(shown == 3))
    assert waits.max() < 2 * LABELS.size + batch_size


def test_every_image_returns_through_the_stream_of_composed_batches():
    """composed = 1/2 leaves half of each batch, so two epochs of it show every image."""
    for start in range(0, 8, 2):
        shown = np.concatenate([plan(epoch=e)[:, 6:].ravel() for e in (start, start + 1)])
        assert np.unique(shown).size >= LABELS.size - 12
    shown = np.concatenate([plan(epoch=e)[:, 6:].ravel() for e in range(20)])
    times = np.bincount(shown, minlength=LABELS.size)
    assert times.max() - times.min() <= 1


def test_a_plan_is_a_function_of_seed_epoch_and_weights():
    assert np.array_equal(plan(seed=3, epoch=5), plan(seed=3, epoch=5))
    assert not np.array_equal(plan(seed=3, epoch=5), plan(seed=4, epoch=5))
    assert not np.array_equal(plan(seed=3, epoch=5), plan(seed=3, epoch=6))
    assert not np.array_equal(plan(), plan(rates=RATES[::-1]))


def test_the_stream_does_not_depend_on_the_weights():
    """Rows of a table that compose by other weights still see the same stream."""
    assert np.array_equal(plan(epoch=2)[:, 6:], plan(epoch=2, rates=RATES[::-1], pairs=PAIRS.T)[:, 6:])


def test_groups_hold_an_anchor_and_its_confusing_classes():
    pairs = np.zeros((6, 6))
    pairs[0, 3] = pairs[3, 5] = pairs[5, 0] = 1.0
    rates = np.array([1.0, 0, 0, 1.0, 0, 1.0])
    partners = {(0, 3), (3, 5), (5, 0)}
    for batch in plan(pairs=pairs, rates=rates):
        composed = LABELS[batch[:6]]
        assert (composed[0], composed[3]) in partners
        assert (composed[:3] == composed[0]).all()
        assert (composed[3:] == composed[3]).all()


def test_anchors_follow_the_rates():
    labels = np.repeat(np.arange(6), 40)
    anchors = np.concatenate([labels[plan(epoch=e, labels=labels)[:, 0]] for e in range(300)])
    shares = np.bincount(anchors, minlength=6) / anchors.size
    np.testing.assert_allclose(shares, RATES / RATES.sum(), atol=4 * np.sqrt(0.25 / anchors.size))


def test_a_small_class_gives_what_it_has_and_the_stream_fills():
    rates = np.array([0, 0, 0, 0, 1.0, 0])  # the class of one image
    for batch in plan(rates=rates):
        assert (LABELS[batch] == 4).sum() == 1
        assert np.unique(batch).size == batch.size


def test_classes_without_images_are_never_drawn():
    labels = LABELS[LABELS != 5]
    rates = np.array([0, 0, 0, 0, 0, 1.0])
    assert (labels[plan(labels=labels, rates=rates)] != 5).all()


@pytest.mark.parametrize("classes_per_group", [1, 2, 3])
def test_expected_shares_are_those_of_many_plans(classes_per_group):
    labels = np.repeat(np.arange(6), [60, 25, 12, 31, 22, 74])
    keywords = {"composed": 0.6, "batch_size": 30, "classes_per_group": classes_per_group}
    shown = np.concatenate([plan(labels=labels, epoch=e, **keywords).ravel() for e in range(400)])
    realised = np.bincount(labels[shown], minlength=6) / shown.size
    expected = expected_class_shares(labels, RATES, PAIRS, images_per_class=3, **keywords)
    assert expected.sum() == pytest.approx(1)
    np.testing.assert_allclose(realised, expected, rtol=0.06)
    assert np.abs(np.bincount(labels) / labels.size - realised).max() > 0.03


def test_a_small_class_is_expected_to_give_no_more_than_it_has():
    rates = np.array([0, 0, 0, 0, 1.0, 0])
    shares = expected_class_shares(
        LABELS, rates, PAIRS, batch_size=12, composed=0.5, images_per_class=3, classes_per_group=2
    )
    assert shares[4] == pytest.approx(1 / 12, rel=0.2)


def test_correction_restores_the_shares_of_the_data():
    shares = expected_class_shares(LABELS, RATES, PAIRS, batch_size=12, composed=0.5, images_per_class=3)
    restored = shares * composition_correction(LABELS, shares)
    np.testing.assert_allclose(restored, np.bincount(LABELS) / LABELS.size, rtol=1e-12)


def test_plain_shuffling_needs_no_correction():
    shares = expected_class_shares(LABELS, RATES, PAIRS, batch_size=12, composed=0.0, images_per_class=3)
    np.testing.assert_allclose(composition_correction(LABELS, shares), 1, rtol=1e-12)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 64}, "number of images, 63"),
        ({"composed": 1.5}, "from 0 to 1"),
        ({"images_per_class": 0}, "positive"),
        ({"labels": np.array([0, 6] * 20)}, "there are 6 classes"),
        ({"labels": np.array([], int)}, "one integer an image"),
        ({"rates": RATES[:4]}, "do not fit together"),
        ({"rates": RATES * np.nan}, "finite"),
        ({"seed": -1}, "negative"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def top_of(pairs, k, rest):
    """`pairs` (plus `rest` everywhere) as the k largest of each row and the rest."""
    indices = np.argsort(-pairs, axis=1, kind="stable")[:, :k].astype(np.int32)
    excess = np.take_along_axis(pairs, indices, axis=1).astype(np.float32)
    top = TopPairWeights(np.where(excess > 0, indices, -1), excess, np.full(len(pairs), rest, np.float32))
    matrix = np.zeros_like(pairs)
    np.put_along_axis(matrix, indices, excess, axis=1)
    return top, (matrix + rest) * (1 - np.eye(len(pairs)))


@pytest.mark.parametrize("rest", [0.0, 0.1])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_groups_of_top_pairs_have_the_law_of_the_matrix(k, rest):
    top, matrix = top_of(PAIRS, k, rest)
    present = np.array([True, True, True, True, False, True])
    rates, steps, size = RATES * present, 20_000, 3

    def law(pairs, seed):
        groups = draw_groups(np.random.default_rng(seed), rates, as_pair_weights(pairs), present, steps, size)
        return np.bincount((groups + 1) @ [49, 7, 1], minlength=343) / steps

    ours, theirs = law(top, 0), law(matrix, 1)
    assert (ours > 0).sum() >= 5
    np.testing.assert_allclose(ours, theirs, atol=5 * np.sqrt(2 * 0.25 * ours.max() / steps))


@pytest.mark.parametrize("classes_per_group", [1, 2, 4])
def test_shares_of_top_pairs_are_those_of_the_matrix(classes_per_group):
    labels = LABELS[LABELS != 2]
    for k, rest in ((5, 0.0), (2, 0.05), (1, 0.0)):
        top, matrix = top_of(PAIRS, k, rest)
        keywords = {
            "batch_size": 30,
            "composed": 0.8,
            "images_per_class": 3,
            "classes_per_group": classes_per_group,
        }
        np.testing.assert_allclose(
            expected_class_shares(labels, RATES, top, **keywords),
            expected_class_shares(labels, RATES, matrix, **keywords),
            rtol=1e-5,
        )


def test_a_plan_of_a_hundred_thousand_classes_meets_their_confusions():
    classes, k = 100_000, 4
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 2)
    indices = ((np.arange(classes)[:, None] + np.arange(1, k + 1)) % classes).astype(np.int32)
    top = TopPairWeights(indices, rng.random((classes, k), np.float32), np.full(classes, 1e-9, np.float32))
    arguments = {"batch_size": 2000, "composed": 0.5, "images_per_class": 2, "classes_per_group": 4}
    batches = plan_epoch(0, 0, labels, np.ones(classes), top, **arguments)
    first = labels[batches[:, :8:2]]  # a later group moves up where a class had an image in the batch already
    assert ((first[:, 1:] - first[:, :1]) % classes <= k).mean() > 0.9
    shares = expected_class_shares(labels, np.ones(classes), top, **arguments)
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("part", ["excess", "rest"])
def test_top_pairs_must_be_finite(part):
    top, _ = top_of(PAIRS, 2, 0.1)
    with pytest.raises(ValueError, match="finite"):
        plan(pairs=top._replace(**{part: getattr(top, part) * np.nan}))
    with pytest.raises(ValueError, match="do not fit together"):
        plan(pairs=top._replace(rest=top.rest[:4]))
