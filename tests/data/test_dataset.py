import dataclasses

import numpy as np
import pytest

from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset, FileSource
from cdml_jax.data.dividing.derived import Subset
from cdml_jax.data.dividing.splits import carve
from cdml_jax.errors import UserError


def _source(labels, order=None):
    order = range(len(labels)) if order is None else order
    return FileSource("anywhere", [f"c{labels[i]}/{i}.png" for i in order], [labels[i] for i in order])


def _names(source):
    return {source.name(i) for i in range(len(source))}


LABELS = [0] * 11 + [1] * 5 + [2] * 2 + [3]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_a_carved_share_is_disjoint_and_complete_and_leaves_every_class_an_image(fraction):
    source = _source(LABELS)
    left, taken = carve(source, fraction, salt="test")
    assert _names(left) | _names(taken) == _names(source)
    assert not _names(left) & _names(taken)
    assert set(left.labels.tolist()) == {0, 1, 2, 3}


def test_shares_are_by_largest_remainder():
    _, taken = carve(_source(LABELS), 0.3, salt="test")  # 3.3, 1.5, 0.6 and 0.3 images; 6 of 19 together
    assert np.bincount(taken.labels, minlength=4).tolist() == [3, 2, 1, 0]


def test_carving_does_not_depend_on_the_order_of_the_files():
    order = np.random.default_rng(0).permutation(len(LABELS)).tolist()
    shuffled, plain = (carve(_source(LABELS, o), 0.3, salt="test")[1] for o in (order, None))
    assert _names(shuffled) == _names(plain)


def test_another_salt_takes_other_images():
    takes = [_names(carve(_source([0] * 40), 0.5, salt=salt)[1]) for salt in ("test", "validation")]
    assert takes[0] != takes[1]


def test_a_subset_keeps_names_and_labels_together():
    subset = Subset(_source(LABELS), np.array([17, 0, 12]))
    assert [subset.name(i) for i in range(3)] == ["c2/17.png", "c0/0.png", "c1/12.png"]
    assert subset.labels.tolist() == [2, 0, 1]


def test_a_file_that_has_gone_is_told(tmp_path):
    with pytest.raises(UserError, match=r"cannot be opened \(No such file"):
        FileSource(tmp_path, ["gone.png"], [0]).image(0)


def test_a_stamp_changes_with_the_file(write_pictures):
    source = FileSource(write_pictures("a/1.png"), ["a/1.png"], [0])
    before = source.stamp(0)
    with open(before[0], "ab") as file:
        file.write(b"more")
    assert source.stamp(0)[1] == before[1] + 4


@pytest.fixture
def dataset():
    return Dataset("d", Classes(("crow", "owl")), {"train": _source([0, 1, 1]), "test": _source([0])})


@pytest.mark.parametrize(
    "change",
    [
        {"classes": Classes(("owl", "crow"))},
        {
            "splits": {
                "train": FileSource("", ["c0/0.png", "c1/1.png", "c1/2.png"], [0, 1, 0]),
                "test": _source([0]),
            }
        },
        {"splits": {"train": _source([0, 1, 1], [1, 0, 2]), "test": _source([0])}},
        {"splits": {"train": _source([0, 1, 1]), "validation": _source([0])}},
        {"splits": {"train": _source([0, 1, 1])}},
    ],
    ids=["names", "label", "order", "role", "missing split"],
)
def test_the_fingerprint_tells_other_data(dataset, change):
    assert dataclasses.replace(dataset, **change).fingerprint() != dataset.fingerprint()


def test_the_fingerprint_does_not_depend_on_where_the_data_lie(dataset):
    splits = {
        s: FileSource("elsewhere", [x.name(i) for i in range(len(x))], x.labels)
        for s, x in dataset.splits.items()
    }
    assert dataclasses.replace(dataset, name="other", splits=splits).fingerprint() == dataset.fingerprint()
