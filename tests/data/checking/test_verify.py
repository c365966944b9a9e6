import os

import numpy as np
import pytest
from messages import says

from cdml_jax.data.checking import images as checks
from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.checking.verify import verify
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset, FileSource
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

GOOD = (
    "train/crow/1.png",
    "train/crow/2.png",
    "train/owl/1.png",
    "train/owl/2.png",
    "test/crow/3.png",
    "test/owl/3.png",
)


@pytest.fixture
def good(write_pictures):
    return write_pictures(*GOOD)


@pytest.fixture
def find(tmp_path):
    """find(folder) -> what loading it complains of."""

    def call(folder, **options):
        with pytest.raises(UserError) as caught:
            load(f"folder:{folder}", data_dir=str(tmp_path / "cache"), **options)
        return str(caught.value).replace(str(folder), "DIR")

    return call


def _truncate(folder):
    file = folder / "train/owl/2.png"
    file.write_bytes(file.read_bytes()[:60])


def _copy(folder):
    (folder / "test/owl/again.png").write_bytes((folder / "train/crow/2.png").read_bytes())


def _copy_one_of_two(folder):
    _copy(folder)
    (folder / "test/owl/other.png").write_bytes((folder / "train/owl/1.png").read_bytes()[:-1] + b"\0")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, "image that cannot be read: train/owl/2.png (truncated)"),
        (
            lambda d: (d / "train/owl/3.jpg").write_bytes(b""),
            "image that cannot be read: train/owl/3.jpg (zero bytes)",
        ),
        (
            lambda d: (d / "test/owl/3.jpg").write_text("a text, renamed"),
            "image that cannot be read: test/owl/3.jpg (not an image that can be read)",
        ),
        (
            lambda d: (d / "test/owl/4.png").symlink_to("gone.png"),
            "link that leads nowhere: test/owl/4.png",
        ),
        (lambda d: (d / "train/emu").mkdir(), "class without a training image: emu"),
        (_copy, "image in two splits: train/crow/2.png (in train) and test/owl/again.png (in test)"),
        (
            lambda d: (d / "test/owl/5.png").symlink_to(d / "train/owl/1.png"),
            "image in two splits: train/owl/1.png (in train) and test/owl/5.png (in test)",
        ),
        (
            lambda d: (d / "train/raptors/owl").mkdir(parents=True),
            "class without a training image: raptors/owl",
        ),
        (lambda d: [os.remove(d / f) for f in GOOD if "crow" in f], "class without a training image: crow"),
        (lambda d: [os.remove(d / f) for f in GOOD if "test" in f], "split without an image: test"),
    ],
    ids=[
        "truncated",
        "zero bytes",
        "text",
        "dangling link",
        "empty class",
        "copy",
        "link",
        "name twice",
        "emptied class",
        "empty split",
    ],
)
def test_what_is_wrong_is_told_with_the_file(good, find, spoil, message):
    spoil(good)
    total = message.count("\n") + 1
    header = f"folder:DIR cannot be used: {total} problem{'s' if total > 1 else ''}; correct or remove"
    assert find(good) == f"{header}\n  {message}"


def test_fewer_than_two_classes(write_pictures, find):
    assert "fewer than two classes: crow" in find(write_pictures("crow/1.png", "crow/2.png"))


def test_everything_wrong_is_in_one_message_that_stays_short(good, find):
    for i in range(30):
        (good / f"train/crow/bad{i:02}.png").write_bytes(b"")
    (good / "train/emu").mkdir()
    _copy(good)
    shown = ", ".join(f"train/crow/bad0{i}.png (zero bytes)" for i in range(3))
    assert find(good).splitlines() == [
        "folder:DIR cannot be used: 32 problems; correct or remove",
        "  class without a training image: emu",
        f"  image that cannot be read (30): {shown} and 27 more",
        "  image in two splits: train/crow/2.png (in train) and test/owl/again.png (in test)",
        "  all of them: cdml prepare folder:DIR",
    ]


def _verify(tmp_path, train, test, **options):
    dataset = Dataset("d", Classes(("crow", "owl")), {"train": train, "test": test})
    verify(dataset, Problems("d"), cache=tmp_path / "cache", **options)


def test_labels_out_of_range(tmp_path, good):
    train = FileSource(good, list(GOOD[:4]), [0, 1, 2, -1])
    with pytest.raises(UserError) as caught:
        _verify(tmp_path, train, FileSource(good, list(GOOD[4:]), [0, 1]))
    found = "label out of range 0 to 1 (2): train/owl/1.png has 2, train/owl/2.png has -1"
    assert says(f"d cannot be used: 2 problems; correct or remove\n  {found}", str(caught.value))


@pytest.mark.parametrize("images", [True, False])
def test_one_path_in_two_splits_is_found_without_looking_inside(tmp_path, good, images):
    with pytest.raises(
        UserError,
        match=r"1 problem; correct or remove\n  image in two splits: train/owl/1.png .in train and test.$",
    ):
        _verify(
            tmp_path,
            FileSource(good, list(GOOD[:4]), [0, 0, 1, 1]),
            FileSource(good, [GOOD[2]], [1]),
            images=images,
        )


def test_one_path_twice_in_a_split(tmp_path, good):
    train = FileSource(good, [GOOD[0], GOOD[2], GOOD[0]], [0, 1, 0])
    with pytest.raises(UserError, match=r"image listed twice: train/crow/1.png \(in train\)"):
        _verify(tmp_path, train, FileSource(good, list(GOOD[4:]), [0, 1]))


def test_copies_within_a_split_are_accepted(tmp_path, good):
    (good / "train/owl/again.png").write_bytes((good / "train/owl/1.png").read_bytes())
    dataset = load(f"folder:{good}", data_dir=str(tmp_path / "cache"))
    assert len(dataset.splits["train"]) == 5


def test_copies_between_a_publishers_splits_are_a_warning(tmp_path, good, capsys):
    _copy(good)
    train = FileSource(good, list(GOOD[:4]), [0, 0, 1, 1])
    _verify(tmp_path, train, FileSource(good, ["test/owl/again.png"], [1]), published=True)
    copy = "train/crow/2.png (in train) and test/owl/again.png (in test)"
    assert says(f"cdml: d: image in two splits, as published: {copy}\n", capsys.readouterr().err)


def test_an_array_of_another_type_is_refused(tmp_path, memory_source, monkeypatch):
    source = memory_source([0, 1])
    monkeypatch.setattr(
        source, "image", lambda index: np.full((4, 4, 3), index, (np.uint8, np.float32)[index])
    )
    with pytest.raises(UserError, match=r"memory\[1\] \(float32 \(4, 4, 3\), not uint8"):
        _verify(tmp_path, source, memory_source([]))


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that were decoded, as they are."""
    names = []
    check = checks.check_image
    monkeypatch.setattr(checks, "check_image", lambda s, i, **o: names.append(s.name(i)) or check(s, i, **o))
    return names


def test_images_known_to_be_good_are_not_decoded_again(tmp_path, good, decoded):
    for fraction in (0.0, 0.5):  # however they are divided
        load(f"folder:{good}", data_dir=str(tmp_path / "cache"), holdout_fraction=fraction)
    assert sorted(decoded) == sorted(GOOD)


def test_an_image_that_changed_is_decoded_again(tmp_path, good, decoded, find):
    load(f"folder:{good}", data_dir=str(tmp_path / "cache"))
    del decoded[:]
    _truncate(good)
    assert "train/owl/2.png (truncated)" in find(good)
    assert decoded == ["train/owl/2.png"]


def test_a_bad_image_is_found_again(good, find):
    _truncate(good)
    assert find(good) == find(good)


def test_a_copy_is_found_among_images_known_to_be_good(tmp_path, good, find, decoded):
    load(f"folder:{good}", data_dir=str(tmp_path / "cache"))
    del decoded[:]
    _copy(good)
    assert "image in two splits: train/crow/2.png" in find(good)
    assert decoded == ["test/owl/again.png"]


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1}', '{"version": 1, "images": {"x": 3}}', "\0"])
def test_a_spoilt_list_of_good_images_is_made_anew(tmp_path, good, decoded, content):
    load(f"folder:{good}", data_dir=str(tmp_path / "cache"))
    for file in (tmp_path / "cache" / "checked").iterdir():
        file.write_text(content)
    load(f"folder:{good}", data_dir=str(tmp_path / "cache"))
    assert len(decoded) == 2 * len(GOOD)


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path, good):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert load(f"folder:{good}", data_dir=str(tmp_path / "cache")).num_classes == 2


def test_the_contents_of_each_split_have_a_digest(tmp_path, good):
    def contents(**options):
        return load(f"folder:{good}", data_dir=str(tmp_path / "cache"), **options).contents

    before = contents()
    assert before.keys() == {"train", "test"}
    assert before["train"] != before["test"]
    assert contents() == before  # from the list of images known to be good
    changed = good / "test/owl/3.png"
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert contents()["train"] == before["train"]
    assert contents()["test"] != before["test"]
    assert contents(check=False) == {}
