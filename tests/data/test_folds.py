"""Folds cover everything once, class by class, whatever the order of the files."""

import numpy as np
import pytest

from cdml_jax.data.dataset import Dataset
from cdml_jax.data.features import FeatureSource
from cdml_jax.data.folds import fold, pool
from cdml_jax.errors import UserError


class Names:
    """Images that are their own names."""

    def __init__(self, names, labels):
        self._names, self.labels = names, np.asarray(labels, np.int32)

    def __len__(self):
        return len(self._names)

    def __getitem__(self, index):
        return {"image": self._names[index], "label": int(self.labels[index])}

    def name(self, index):
        return self._names[index]


def dataset(order=None):
    labels = np.array([0] * 11 + [1] * 7 + [2] * 3)
    names = [f"image {i}" for i in range(21)]
    order = np.arange(21) if order is None else order
    train = Names([names[i] for i in order], labels[order])
    validation = Names([f"other {i}" for i in range(4)], [2, 0, 1, 2])
    test = Names(["test"], [0])
    splits = {"train": train, "validation": validation, "test": test}
    return Dataset("named", ("a", "b", "c"), None, None, splits)


def named(source):
    return {source[i]["image"]: int(source.labels[i]) for i in range(len(source))}


def test_pooling_puts_the_validation_images_behind_the_training_images():
    pooled = pool(dataset())
    assert set(pooled.splits) == {"train", "test"}
    source = pooled.splits["train"]
    assert [source.name(i) for i in (0, 20, 21, 24)] == ["image 0", "image 20", "other 0", "other 3"]
    assert named(source) == named(dataset().splits["train"]) | named(dataset().splits["validation"])


def test_each_image_is_validated_in_one_fold_and_trained_on_in_the_others():
    everything = named(pool(dataset()).splits["train"])
    validated = {}
    for index in range(5):
        splits = fold(dataset(), index, 5).splits
        assert set(splits) == {"train", "validation"}
        own = named(splits["validation"])
        assert not validated.keys() & own.keys()
        validated |= own
        assert named(splits["train"]) | own == everything
        assert not named(splits["train"]).keys() & own.keys()
    assert validated == everything


def test_folds_share_out_every_class():
    per_class = np.array(
        [np.bincount(fold(dataset(), k, 5).splits["validation"].labels, minlength=3) for k in range(5)]
    )
    assert np.ptp(per_class, axis=0).max() <= 1
    assert np.ptp(per_class.sum(axis=1)) <= 1


def test_folds_do_not_depend_on_the_order_of_the_files():
    shuffled = dataset(np.random.default_rng(0).permutation(21))
    for index in range(3):
        assert named(fold(dataset(), index, 3).splits["validation"]) == named(
            fold(shuffled, index, 3).splits["validation"]
        )


def test_folds_of_features_keep_each_row_with_its_image():
    plain = dataset()
    splits = {
        name: FeatureSource(source, np.array([[[hash(n) % 1000]] for n in named(source)], np.float32))
        for name, source in plain.splits.items()
    }
    featured = Dataset("named", ("a", "b", "c"), None, None, splits)
    for split in ("train", "validation"):
        source = fold(featured, 1, 4).splits[split]
        expected = [hash(source.name(i)) % 1000 for i in range(len(source))]
        assert source.features[:, 0, 0].tolist() == expected
        assert named(fold(plain, 1, 4).splits[split]).keys() == {source.name(i) for i in range(len(source))}


def test_pooling_without_a_validation_split_is_refused():
    splits = {"train": dataset().splits["train"]}
    with pytest.raises(UserError, match="no validation split"):
        pool(Dataset("named", ("a", "b", "c"), None, None, splits))
