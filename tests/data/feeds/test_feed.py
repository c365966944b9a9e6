"""Feeds: the same questions of images and of features; what is selected and joined keeps its images."""

import dataclasses

import numpy as np
import pytest

from cdml_jax.data import ArraySource
from cdml_jax.data.feeds.batches import evaluation_batches, training_batches
from cdml_jax.data.feeds.feed import FeatureFeed, ImageFeed
from cdml_jax.data.images.transforms import Transform

TRANSFORM = Transform(8, jitter=0.1)
PLAN = np.array([[6, 0, 2, 5], [1, 1, 5, 3]], np.int32)


@pytest.fixture
def source(memory_source):
    return memory_source(np.arange(7) % 3)


@pytest.fixture
def images(source):
    return ImageFeed(source, TRANSFORM, batch_size=4, num_threads=0)


@pytest.fixture
def features(source):
    return FeatureFeed(source, np.random.default_rng(0).random((7, 3, 5), np.float32), batch_size=4)


@pytest.fixture(params=["images", "features"])
def feed(request):
    return request.getfixturevalue(request.param)


def assert_equal(these, those):
    for this, that in zip(these, those, strict=True):
        assert this.keys() == that.keys()
        for key in this:
            np.testing.assert_array_equal(this[key], that[key])


def test_batches_of_images_are_those_of_the_functions(source, images):
    options = {"transform": TRANSFORM, "num_threads": 0}
    assert_equal(
        images.training(PLAN, seed=1, epoch=2, start_step=1),
        training_batches(source, PLAN, seed=1, epoch=2, start_step=1, **options),
    )
    assert_equal(images.evaluation(), evaluation_batches(source, batch_size=4, **options))


def test_a_batch_is_as_the_feed_says(feed):
    for batch in (*feed.training(PLAN, seed=0, epoch=0), *feed.evaluation()):
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
            "image": ((4, *feed.spec.shape), feed.spec.dtype),
            "label": ((4,), np.int32),
            "mask": ((4,), bool),
            "index": ((4,), np.int32),
        }


def test_labels_and_names_are_the_sources(feed, source):
    assert len(feed) == 7
    assert feed.name(3) == "memory[3]"
    np.testing.assert_array_equal(feed.labels, source.labels)


def test_evaluation_gives_every_image_once_and_pads(feed):
    batches = list(feed.evaluation())
    assert np.concatenate([b["index"] for b in batches]).tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
    assert not batches[1]["mask"][3]
    assert not batches[1]["image"][3].any()
    assert batches[1]["label"][3] == 0


def test_selected_images_keep_their_pixels_labels_and_names(feed):
    chosen = np.array([5, 2, 4, 0])
    (part,), whole = list(feed.select(chosen).evaluation()), list(feed.evaluation())
    for key in ("image", "label"):
        np.testing.assert_array_equal(part[key], np.concatenate([b[key] for b in whole])[chosen])
    assert [feed.select(chosen).name(i) for i in range(4)] == [feed.name(i) for i in chosen]


def test_joined_images_stand_one_behind_the_other(feed):
    first, second = feed.select(np.array([3, 1])), feed.select(np.array([6, 5]))
    (both,) = first.joined(second).evaluation()
    (same,) = feed.select(np.array([3, 1, 6, 5])).evaluation()
    assert_equal([both], [same])


def test_joined_features_have_the_views_that_both_have(features, source):
    other = FeatureFeed(source, np.ones((7, 2, 5), np.float32), batch_size=4)
    assert features.joined(other).features.shape == (14, 2, 5)


@pytest.mark.parametrize("count", [2, 4])
def test_shards_are_the_slices_of_the_global_batch(feed, count):
    shards = [dataclasses.replace(feed, shard=(i, count)) for i in range(count)]
    for of in (lambda f: f.training(PLAN, seed=3, epoch=1), lambda f: f.evaluation()):
        slices = zip(*(of(shard) for shard in shards), strict=True)
        joined = [{k: np.concatenate([part[k] for part in parts]) for k in parts[0]} for parts in slices]
        assert_equal(joined, of(feed))


def test_a_later_start_gives_the_rest(feed):
    whole = list(feed.training(PLAN, seed=3, epoch=1))
    assert_equal(feed.training(PLAN, seed=3, epoch=1, start_step=1), whole[1:])


def test_images_are_kept_in_memory_where_they_fit(source, images):
    kept = dataclasses.replace(images, cache_bytes=7 * 9 * 11 * 3)
    assert kept.in_memory
    assert not dataclasses.replace(images, cache_bytes=7 * 9 * 11 * 3 - 1).in_memory
    assert_equal(kept.training(PLAN, seed=0, epoch=0), images.training(PLAN, seed=0, epoch=0))


def test_images_are_kept_smaller_where_no_crop_zooms_in(picture):
    source = ArraySource([picture(0, 30, 40)], [0])
    kept = ImageFeed(source, Transform(8, crop="random", resize=15), batch_size=1, cache_bytes=2**20)
    assert kept._kept.image(0).shape == (15, 20, 3)
    zooming = ImageFeed(source, Transform(8), batch_size=1, cache_bytes=2**20)
    assert zooming._kept.image(0).shape == (30, 40, 3)


def test_no_image_is_read_before_the_first_batch(images, monkeypatch):
    monkeypatch.setattr(images.source, "image", None)
    feed = dataclasses.replace(images, cache_bytes=2**20).select(np.arange(4))
    assert (len(feed), feed.spec.shape, feed.labels.tolist()) == (4, (8, 8, 3), [0, 1, 2, 0])


def test_a_training_batch_takes_one_augmented_view_of_each_image(features):
    for step, batch in enumerate(features.training(PLAN, seed=3, epoch=1)):
        for row, index in enumerate(PLAN[step]):
            assert any((batch["image"][row] == features.features[index, view]).all() for view in (1, 2))
        np.testing.assert_array_equal(batch["label"], features.labels[PLAN[step]])


def test_views_are_drawn_evenly_and_differ_between_epochs(features):
    plan = np.zeros((50, 4), int)
    drawn = [
        np.concatenate([b["image"][:, 0] for b in features.training(plan, seed=0, epoch=epoch)])
        == features.features[0, 1, 0]
        for epoch in (0, 1)
    ]
    assert 0.4 < np.mean(drawn[0]) < 0.6
    assert (drawn[0] != drawn[1]).any()


def test_without_augmented_views_training_sees_the_evaluation_view(source, features):
    plain = FeatureFeed(source, features.features[:, :1], batch_size=4)
    batch = next(plain.training(np.array([[2, 3]]), seed=0, epoch=0))
    np.testing.assert_array_equal(batch["image"], features.features[[2, 3], 0])
