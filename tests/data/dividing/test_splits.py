import dataclasses

import numpy as np
import pytest
from miniature_archives import WRITERS, write_cars_combined

from cdml_jax.data.dividing.splits import by_classes
from cdml_jax.data.published.catalogue import SETS
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError


def _rows(source):
    return [(source.name(i), label) for i, label in enumerate(np.asarray(source.labels).tolist())]


@pytest.fixture
def published(tmp_path):
    """published(key, **options) -> the miniature, loaded, and what it must be."""

    def read(key, **options):
        expected = WRITERS[key](tmp_path / key)
        return load(f"{key}:{tmp_path / key}", data_dir=str(tmp_path / "cache"), **options), expected

    return read


def test_splits_can_be_added_up(published):
    dataset, expected = published("aircraft100", train="train+validation", validation="")
    assert _rows(dataset.splits["train"]) == expected.splits["train"] + expected.splits["validation"]
    assert set(dataset.splits) == {"train", "test"}
    for source in dataset.splits.values():
        assert len({source.stamp(i) for i in range(len(source))}) == len(source)


def test_a_published_validation_split_can_be_tested_on(published):
    dataset, expected = published("inat2021", validation="", test="validation", validation_fraction=0.25)
    assert _rows(dataset.splits["test"]) == expected.splits["validation"]
    assert len(dataset.splits["validation"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": "dev"}, r"cub200:.*there is no split 'dev'; it has train, test"),
        ({"train": "train+valid"}, "there is no split 'valid'"),
        ({"train": "train+test"}, r"image in two splits \(2\): 001\.Black"),
    ],
)
def test_splits_that_cannot_be_are_refused(options, message, published):
    with pytest.raises(UserError, match=message):
        published("cub200", **options)


def _disjoint(dataset, first):
    """Names by class of the train and test splits, computed from the whole set."""
    pool = [row for split in ("train", "test") for row in _rows(dataset.splits[split])]
    return [r for r in pool if r[1] < first], [(n, label - first) for n, label in pool if label >= first]


def test_all_images_of_a_class_go_the_same_way_and_labels_start_at_zero(published):
    whole, _ = published("cub200")
    train, test = _disjoint(whole, 2)
    dataset = by_classes(whole, 2)
    assert _rows(dataset.splits["train"]) == train
    assert _rows(dataset.splits["test"]) == test
    assert dataset.classes.names == ("Black footed Albatross", "Chuck will Widow")
    assert dataset.test_class_names == ("Red winged Blackbird",)
    assert dataset.splits["test"].labels[0] == 0
    assert dataset.splits["test"].image(0) == whole.splits["train"].image(2)


@pytest.mark.parametrize("first", [0, 3])
def test_a_side_without_classes_is_refused(first, published):
    with pytest.raises(UserError, match=f"{first} of 3 classes cannot train"):
        by_classes(published("cub200")[0], first)


def test_class_disjoint_follows_the_protocol_of_the_set(tmp_path, monkeypatch):
    assert (SETS["cub200"].disjoint_classes, SETS["cars196"].disjoint_classes) == (100, 98)
    monkeypatch.setitem(SETS, "cars196", dataclasses.replace(SETS["cars196"], disjoint_classes=2))
    write_cars_combined(tmp_path / "cars")
    options = {"data_dir": str(tmp_path / "cache"), "class_disjoint": True, "validation_fraction": 0.34}
    dataset = load(f"cars196:{tmp_path / 'cars'}", **options)
    assert {s: sorted(set(source.labels.tolist())) for s, source in dataset.splits.items()} == {
        "train": [0, 1],
        "test": [0],
        "validation": [0],  # taken from the classes that train
    }
    assert [n for n, _ in _rows(dataset.splits["test"])] == ["car_ims/000004.jpg", "car_ims/000005.jpg"]
    assert dataset.num_classes == 2


def test_a_set_without_such_a_protocol_is_refused(published):
    with pytest.raises(UserError, match=r"data\.class_disjoint: dogs120:.* cub200 and cars196 have"):
        published("dogs120", class_disjoint=True)


def test_other_splits_cannot_be_asked_for_as_well(published):
    with pytest.raises(UserError, match=r"leave data\.train, data\.validation"):
        published("cub200", class_disjoint=True, test="", test_fraction=0.5)
