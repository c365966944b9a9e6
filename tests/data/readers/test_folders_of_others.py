"""Folders and files among one's own that are no classes: what becomes of them is said."""

import pytest

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import ALIKE
from cdml_jax.data.readers.folder import read_folder
from cdml_jax.data.readers.scanning import HIDDEN, PASSED_OVER
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

NAMES = {"train": "train", "holdout": "", "validation": "validation", "test": "test"}
BIRDS = ("crow/1.png", "crow/2.png", "owl/1.png", "owl/2.png")


@pytest.fixture
def read(write_pictures):
    """read(*paths) -> the classes' names and what is noted."""

    def call(*paths, **names):
        problems = Problems("d")
        dataset = read_folder(str(write_pictures(*paths)), NAMES | names, problems)
        problems.raise_if_any()
        return dataset.classes.names, list(problems.lines())

    return call


@pytest.mark.parametrize("name", ["LOST.DIR", "FOUND.001", "Recycled"])
def test_what_systems_recovered_or_threw_away_is_no_class(read, name):
    assert read(*BIRDS, f"{name}/9.png") == (("crow", "owl"), [f"{PASSED_OVER}: {name}"])


def test_hidden_images_are_named_and_what_macos_keeps_is_not(read):
    names, lines = read(
        *BIRDS, ".emu/1.png", ".cache/deep/1.png", "crow/.3.png", "owl/._1.png", ".git/config"
    )
    assert (names, lines) == (("crow", "owl"), [f"{HIDDEN} (3): .cache, .emu and 1 more"])


@pytest.mark.parametrize(
    ("splits", "lacking", "flag"),
    [
        (("train", "val", "Test"), "Test", "data.test=Test"),
        (("train", "test", "dev"), "dev", "data.validation=dev"),
        (("train", "validation", "test_images"), "test_images", "data.test=test_images"),
    ],
)
def test_a_split_by_another_name_is_not_left_out_where_it_is_lacking(read, splits, lacking, flag):
    with pytest.raises(UserError, match=f"train beside {lacking}: is {lacking} a split.*--config.{flag};"):
        read(*(f"{split}/{path}" for split in splits for path in BIRDS))


def test_another_folder_of_a_split_that_is_there_is_left_out_and_named(read):
    _, lines = read(*(f"{split}/{path}" for split in ("train", "val", "test", "Test2") for path in BIRDS))
    assert lines == ["folder that is not a split, left out: Test2"]


def test_a_test_folder_of_images_without_labels_is_explained(read):
    with pytest.raises(
        UserError, match=r"test/1.png \(2 in test: one folder a class is needed; images without"
    ):
        read(*(f"train/{path}" for path in BIRDS), "test/1.png", "test/2.png")


def test_a_class_without_images_says_what_it_has(write_pictures):
    folder = write_pictures(*BIRDS)
    for file in ("emu/1.npy", "emu/2.npy", "emu/notes.txt", "jay/all.zip"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"x")
    with pytest.raises(UserError, match=r"\(2\): emu \(it has 2 .npy, 1 .txt\), jay \(it has 1 .zip\)$"):
        load(f"folder:{folder}")


def test_classes_that_a_person_would_take_for_one_are_noted(read):
    names, lines = read("Owl/1.png", "owl/2.png", "owl /3.png", "crow/4.png")
    assert names == ("Owl", "crow", "owl", "owl ")
    assert lines == [f"{ALIKE}: 'Owl' and 'owl' and 'owl '"]
