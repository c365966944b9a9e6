import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from cdml_jax import data
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import ArraySource, Dataset, FileSource
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


IMAGES = np.arange(3 * 2 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 3)


def test_arrays_are_a_source_and_are_not_copied():
    source = ArraySource(IMAGES, [2, 0, 2], ["a", "b", "c"])
    assert (len(source), source.labels.tolist(), source.labels.dtype) == (3, [2, 0, 2], np.int32)
    assert np.shares_memory(source.image(1), IMAGES)
    np.testing.assert_array_equal(source.image(1), IMAGES[1])
    assert source.name(2) == "c"


def test_images_of_several_sizes_and_encoded_ones_are_a_source(png, picture):
    images = [picture(0, 3, 5), png(picture(1)), picture(2, 7, 4)]
    source = ArraySource(images, np.array([0, 1, 1], np.int64))
    assert source.image(1) == images[1]
    assert [source.image(i).shape for i in (0, 2)] == [(3, 5, 3), (7, 4, 3)]


def test_names_of_arrays_tell_their_place_and_content():
    same, other = ArraySource(IMAGES, [0, 1, 2]), ArraySource(IMAGES + 1, [0, 1, 2])
    names = [ArraySource(IMAGES, [0, 1, 2]).name(i) for i in range(3)]
    assert names == [same.name(i) for i in range(3)]
    assert len({*names, *(other.name(i) for i in range(3))}) == 6


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (IMAGES / 255, [0, 1, 2], None, "images: float64, not uint8; scale them"),
        (IMAGES[..., 0], [0, 1, 2], None, r"images: shape \(3, 2, 4\), not \(n, height, width, 3\); of grey"),
        (
            IMAGES.transpose(0, 3, 1, 2),
            [0, 1, 2],
            None,
            r"not \(n, .*; move the channels to the end",
        ),
        ([IMAGES[0], IMAGES[1, 0]], [0, 1], None, r"images\[1\]: shape \(4, 3\), not \(height, width, 3\)"),
        ([IMAGES[0], IMAGES[1] * 1.0], [0, 1], None, r"images\[1\]: float64, not uint8"),
        (IMAGES, [0, 1], None, "labels: 2 for 3 images"),
        (IMAGES, [0, 1, 2], ["a"], "names: 1 for 3 images"),
        (IMAGES, [0, 1.0, 2], None, "labels: float64, not integers"),
        (IMAGES, [0, 1, -2], None, r"labels\[2\]: -2; labels count from 0"),
        (IMAGES, [0, 2**31, 1], None, r"labels\[1\]: 2147483648; labels count from 0 to 2,147,483,647"),
        (IMAGES, np.zeros((3, 2), int), None, r"labels: shape \(3, 2\), not \(n,\)"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, labels, names, message):
    with pytest.raises(UserError, match=message):
        ArraySource(images, labels, names)


def test_a_data_set_is_described_without_opencv_and_tfds():
    code = (
        "import sys; from cdml_jax.data import ArraySource, Dataset; "
        "print(*{'cv2', 'tensorflow_datasets', 'grain', 'jax'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not run.stdout.split()


def test_the_folder_has_its_public_names_and_no_other():
    for name in data.__all__:
        assert getattr(data, name).__name__ == name
        assert name in dir(data)
    with pytest.raises(AttributeError, match=r"module .cdml_jax\.data. has no attribute .Datset."):
        data.Datset  # noqa: B018
