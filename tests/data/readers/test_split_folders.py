import pytest

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.readers.folder import read_folder
from cdml_jax.data.readers.split_folders import role_of
from cdml_jax.errors import UserError

NAMES = {"train": "train", "holdout": "", "validation": "validation", "test": "test"}


def read(folder, **names):
    """The sizes of the splits, the classes, and what is noted."""
    problems = Problems("d")
    dataset = read_folder(str(folder), NAMES | names, problems)
    problems.raise_if_any()
    sizes = {split: len(source) for split, source in dataset.splits.items()}
    return sizes, dataset.classes.names, list(problems.lines())


def in_each(*splits):
    return [f"{split}/{name}/{k}.png" for split in splits for name in ("crow", "owl") for k in (1, 2)]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            ("Test", "Train"),
            (
                "Train and Test look like splits: rename them to train and test, or "
                "--config.data.train=Train --config.data.test=Test"
            ),
        ),
        (("training", "testing"), "--config.data.train=training --config.data.test=testing"),
        (("train2017", "val2017"), "--config.data.train=train2017 --config.data.validation=val2017"),
        (
            ("TRAIN", "VAL", "TEST"),
            "rename them to train and validation and test, or --config.data.train=TRAIN",
        ),
        (("Training Set", "Test Set"), "--config.data.train='Training Set' --config.data.test='Test Set'"),
        (("trainval", "test"), "rename them to train and test, or --config.data.train=trainval"),
        (("01_train", "02_test"), "--config.data.train=01_train --config.data.test=02_test"),
        (
            ("images-train", "images-val"),
            "--config.data.train=images-train --config.data.validation=images-val",
        ),
        (("set/1_train", "set/2_test"), "give the folder that holds the splits, folder:DIR/set"),
        (("train", "validation", "val"), "validation and val are both there: move one of them out, or"),
        (("train_images", "test"), "rename them to train and test, or --config.data.train=train_images"),
        (("val", "test"), "test and val look like splits, but there is no train"),
        (
            ("train", "Test"),
            "train beside Test: is Test a split? rename it to test, or name it by --config.data.test=Test;",
        ),
        (("train", "test_images"), "or name it by --config.data.test=test_images"),
        (("train", "dev"), "or name it by --config.data.validation=dev"),
        (
            ("train", "unlabeled"),
            "is unlabeled a split? rename it to validation, or name it by --config.data.",
        ),
        (
            ("set/train", "set/test"),
            (
                "set/test/crow and set/train/crow seem to be one class in two splits: give the folder that "
                "holds the splits, folder:DIR/set"
            ),
        ),
        (("2025/train", "2025/test", "2026/train"), "seem to be one class in two splits"),
    ],
)
def test_splits_by_other_names_are_not_taken_for_classes(write_pictures, splits, message):
    folder = write_pictures(*in_each(*splits))
    with pytest.raises(UserError) as caught:
        read(folder)
    assert message in str(caught.value).replace(str(folder), "DIR")
    assert "\n" not in str(caught.value)


def test_splits_inside_classes_are_not_taken_for_classes(write_pictures):
    folder = write_pictures(*(f"{c}/{split}/1.png" for c in ("crow", "owl") for split in ("test", "train")))
    with pytest.raises(UserError, match=r"crow/test and the others seem to be splits inside.*, test/crow$"):
        read(folder)


def test_they_are_splits_where_they_are_named(write_pictures):
    folder = write_pictures(*in_each("Train", "Test"))
    assert read(folder, train="Train", test="Test") == ({"train": 4, "test": 4}, ("crow", "owl"), [])


def test_folders_beside_splits_are_left_out_and_named(write_pictures):
    folder = write_pictures(*in_each("train", "val", "unlabeled"), "9.png")
    (folder / "annotations").mkdir()
    assert read(folder) == (
        {"train": 4, "validation": 4},
        ("crow", "owl"),
        [
            "folder that is not a split, left out: unlabeled",
            "image outside the split folders, left out: 9.png",
        ],
    )


def test_a_training_folder_beside_folders_without_images_is_the_pool(write_pictures):
    folder = write_pictures(*in_each("train"))
    (folder / "labels").mkdir()
    (folder / "labels" / "all.csv").write_text("x")
    assert read(folder) == ({"train": 4}, ("crow", "owl"), [])


@pytest.mark.parametrize("classes", [("bus", "train", "tram"), ("testudo", "trainer", "valley")])
def test_classes_with_such_names_are_classes(write_pictures, classes):
    folder = write_pictures(*(f"{name}/{k}.png" for name in classes for k in range(2)))
    assert read(folder) == ({"train": 6}, classes, [])


def test_a_family_of_trains_is_a_family(write_pictures):
    folder = write_pictures("Trains/steam/1.png", "Trains/diesel/1.png", "Buses/city/1.png")
    assert read(folder)[1] == ("city", "diesel", "steam")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("TRAIN", "train"),
        ("valid_set", "validation"),
        ("eval", "validation"),
        ("tst", "test"),
        ("trainee", ""),
        ("3_Training_Images", "train"),
        ("TestSet", "test"),
        ("train_test", ""),
        ("train station", ""),
    ],
)
def test_names_of_splits(name, role):
    assert role_of(name) == role


@pytest.mark.parametrize("parts", [("fold0", "fold1", "fold2"), ("images", "masks"), ("gallery", "query")])
def test_families_of_the_same_classes_are_named(write_pictures, parts):
    sizes, names, notes = read(write_pictures(*in_each(*parts)))
    assert (sizes, len(names)) == ({"train": 4 * len(parts)}, 2 * len(parts))
    assert notes[0].endswith(f"splits of one set: {' and '.join(parts)} (crow, owl, …)")


def test_families_that_share_some_classes_are_families(write_pictures):
    letters = [f"{family}/{k}/1.png" for family, count in (("Greek", 3), ("Korean", 5)) for k in range(count)]
    assert len(read(write_pictures(*letters))[2]) == 1  # that names are in several families
