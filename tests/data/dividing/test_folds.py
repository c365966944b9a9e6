"""Folds cover everything once, class by class, whatever the order of the files."""

import numpy as np
import pytest

from cdml_jax.data import ArraySource
from cdml_jax.data.dividing.derived import Digested
from cdml_jax.data.dividing.folds import fold, pool
from cdml_jax.data.feeds.feed import FeatureFeed, image_feeds
from cdml_jax.data.images.transforms import Transform
from cdml_jax.errors import UserError


def source(names, labels):
    return ArraySource(np.zeros((len(names), 1, 1, 3), np.uint8), labels, names)


def sources(order=None):
    labels = np.array([0] * 11 + [1] * 7 + [2] * 3)
    names = [f"image {i}" for i in range(21)]
    order = np.arange(21) if order is None else order
    return {
        "train": source([names[i] for i in order], labels[order]),
        "validation": source([f"other {i}" for i in range(4)], [2, 0, 1, 2]),
        "test": source(["test"], [0]),
    }


def feeds(order=None):
    return image_feeds(sources(order), transform=Transform(8), batch_size=4)


def named(feed):
    return {feed.name(i): int(feed.labels[i]) for i in range(len(feed))}


def test_pooling_puts_the_validation_images_behind_the_training_images():
    pooled = pool(feeds())
    assert set(pooled) == {"train", "test"}
    feed = pooled["train"]
    assert [feed.name(i) for i in (0, 20, 21, 24)] == ["image 0", "image 20", "other 0", "other 3"]
    assert named(feed) == named(feeds()["train"]) | named(feeds()["validation"])


def test_each_image_is_validated_in_one_fold_and_trained_on_in_the_others():
    everything = named(pool(feeds())["train"])
    validated = {}
    for index in range(5):
        parts = fold(feeds(), index, 5)
        assert set(parts) == {"train", "validation"}
        own = named(parts["validation"])
        assert not validated.keys() & own.keys()
        validated |= own
        assert named(parts["train"]) | own == everything
        assert not named(parts["train"]).keys() & own.keys()
    assert validated == everything


def test_folds_share_out_every_class():
    per_class = np.array(
        [np.bincount(fold(feeds(), k, 5)["validation"].labels, minlength=3) for k in range(5)]
    )
    assert np.ptp(per_class, axis=0).max() <= 1
    assert np.ptp(per_class.sum(axis=1)) <= 1


def test_folds_do_not_depend_on_the_order_of_the_files():
    shuffled = feeds(np.random.default_rng(0).permutation(21))
    for index in range(3):
        assert named(fold(feeds(), index, 3)["validation"]) == named(fold(shuffled, index, 3)["validation"])


def test_folds_of_features_keep_each_row_with_its_image():
    featured = {
        split: FeatureFeed(s, np.array([[[hash(s.name(i)) % 1000]] for i in range(len(s))], np.float32), 4)
        for split, s in sources().items()
    }
    for split in ("train", "validation"):
        feed = fold(featured, 1, 4)[split]
        expected = [hash(feed.name(i)) % 1000 for i in range(len(feed))]
        assert feed.features[:, 0, 0].tolist() == expected
        assert named(fold(feeds(), 1, 4)[split]) == named(feed)


def test_pooling_without_a_validation_split_is_refused():
    with pytest.raises(UserError, match="no validation split"):
        pool({"train": feeds()["train"]})


def test_copies_are_in_one_fold():
    """By the digests that a check leaves; the others are where they were."""
    plain = sources()
    digests = [
        f"{i % 7:024}" if i < 14 else f"{i:024}" for i in range(21)
    ]  # 0 to 6 are 7 to 13, across classes
    known = plain | {"train": Digested(plain["train"], digests, bound=True)}
    feeds_of = {
        k: image_feeds(s, transform=Transform(8), batch_size=4) for k, s in (("no", plain), ("yes", known))
    }
    found = {
        k: {name: index for index in range(3) for name in named(fold(each, index, 3)["validation"])}
        for k, each in feeds_of.items()
    }
    assert all(found["yes"][f"image {i}"] == found["yes"][f"image {i + 7}"] for i in range(7))
    assert found["yes"].keys() == found["no"].keys()
    unbound = plain | {"train": Digested(plain["train"], digests, bound=False)}
    published = image_feeds(unbound, transform=Transform(8), batch_size=4)
    assert named(fold(published, 1, 3)["validation"]) == named(fold(feeds(), 1, 3)["validation"])
