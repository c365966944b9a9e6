"""Images that are there more than once: what is refused, what is listed, and on which side they go."""

import shutil

import cv2
import numpy as np
import pytest

from cdml_jax.data.checking import copies
from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

SHARES = {"test_fraction": 0.25, "validation_fraction": 0.25}


@pytest.fixture
def pool(write_pictures):
    return write_pictures(*(f"{name}/{k}.png" for name in ("crow", "jay", "owl") for k in range(12)))


@pytest.fixture
def noted(tmp_path):
    """noted(folder) -> the data set, and a line for each kind of note."""

    def call(folder, **options):
        problems = Problems("d", whole=True)
        dataset = load(f"folder:{folder}", data_dir=str(tmp_path / "cache"), problems=problems, **options)
        return dataset, list(problems.lines())

    return call


def copy(folder, first, *others):
    for other in others:
        shutil.copyfile(folder / first, folder / other)


def sides(dataset):
    """The split of each image."""
    return {source.name(i): split for split, source in dataset.splits.items() for i in range(len(source))}


@pytest.mark.parametrize("check", [True, False])
def test_a_drawn_split_keeps_copies_of_a_class_on_one_side(pool, noted, check):
    for k in range(6):
        copy(pool, f"crow/{k}.png", f"crow/{k} copy.png")
    copy(pool, "owl/0.png", "owl/x.png", "owl/y.png", "owl/z.png")
    dataset, lines = noted(pool, check=check, **SHARES)
    side = sides(dataset)
    assert all(side[f"crow/{k}.png"] == side[f"crow/{k} copy.png"] for k in range(6))
    assert len({side[f"owl/{k}.png"] for k in "0xyz"}) == 1
    assert {split: len(source) for split, source in dataset.splits.items()} == {
        "train": 23,
        "test": 11,
        "validation": 11,
    }
    assert bool(lines) == check
    if check:
        assert lines[0].startswith(
            f"{copies.IN_ONE_CLASS}{copies.BOUND} (7):\n    crow/0 copy.png and crow/0.png"
        )


def test_without_copies_contents_change_nothing(pool, noted):
    """Shares go by names alone, as they went before contents were known."""
    before = sides(noted(pool, check=False, **SHARES)[0])
    copy(pool, "crow/0.png", "crow/more.png")
    (pool / "crow/more.png").unlink()
    assert sides(noted(pool, **SHARES)[0]) == before


def test_a_class_of_copies_alone_gives_none(pool, noted):
    for k in range(1, 12):
        copy(pool, "jay/0.png", f"jay/{k}.png")
    dataset, _ = noted(pool, **SHARES)
    assert {side for name, side in sides(dataset).items() if name.startswith("jay")} == {"train"}
    assert len(dataset.splits["test"]) == 6


def test_one_image_under_several_classes_is_listed_and_stays_in_training(pool, noted):
    copy(pool, "crow/3.png", "owl/x.png", "jay/x.png", "jay/y.png")
    for salt in range(3):
        copy(pool, f"crow/{5 + salt}.png", f"owl/s{salt}.png")
    dataset, lines = noted(pool, **SHARES)
    expected = (
        f"{copies.UNDER_CLASSES}{copies.BOUND} (4):\n"
        "    crow/3.png (crow) and jay/x.png (jay) and jay/y.png (jay) and owl/x.png (owl)\n"
        "    crow/5.png (crow) and owl/s0.png (owl)\n"
        "    crow/6.png (crow) and owl/s1.png (owl)\n"
        "    crow/7.png (crow) and owl/s2.png (owl)"
    )
    assert lines == [expected]
    side = sides(dataset)
    assert {side[name] for name in ("crow/3.png", "owl/x.png", "jay/y.png", "crow/5.png", "owl/s0.png")} == {
        "train"
    }


def test_copies_in_splits_of_ones_own_are_all_listed(write_pictures, noted):
    folder = write_pictures(*(f"train/{n}/{k}.png" for n in ("a", "b") for k in range(13)), "test/b/x.png")
    (folder / "test/a").mkdir()
    for k in range(13):
        copy(folder, f"train/a/{k}.png", f"test/a/c{k}.png")
    with pytest.raises(UserError) as caught:
        noted(folder)
    _, kind, *places = str(caught.value).splitlines()
    assert kind == "  image in two splits (13):"
    assert sorted(places) == sorted(
        f"    train/a/{k}.png (in train) and test/a/c{k}.png (in test)" for k in range(13)
    )


def test_an_image_under_several_classes_in_splits_of_ones_own_is_not_kept_together(write_pictures):
    names = [
        f"{split}/{name}/{k}.png" for split in ("train", "test") for name in ("crow", "owl") for k in "13"
    ]
    folder = write_pictures(*names)
    copy(folder, "train/crow/1.png", "test/owl/2.png")
    problems = Problems("d", whole=True)
    with pytest.raises(
        UserError, match=r"image in two splits: train/crow/1.png .in train. and test/owl/2.png"
    ):
        load(f"folder:{folder}", problems=problems)
    note = f"{copies.UNDER_CLASSES}: train/crow/1.png (crow) and test/owl/2.png (owl)"
    assert note in list(problems.lines())


def changed(image, change):
    """A picture as people copy it."""
    height, width = image.shape[:2]
    return {
        "quality": lambda: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1),
        "half": lambda: cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA),
        "larger": lambda: cv2.resize(image, (width * 2, height * 2), interpolation=cv2.INTER_CUBIC),
        "brighter": lambda: np.clip(image * 1.08, 0, 255).astype(np.uint8),
        "cut": lambda: image[1:-1, 1:-1],
        "marked": lambda: cv2.putText(image.copy(), "me", (2, height - 4), 0, 0.4, (255, 255, 255)),
    }[change]()


@pytest.fixture
def photographs(tmp_path):
    """Forty pictures, each unlike the others; returns the folder."""
    rng = np.random.default_rng(0)
    for k in range(40):
        noise = cv2.resize(
            rng.integers(0, 256, (8, 10, 3), dtype=np.uint8), (120, 96), interpolation=cv2.INTER_CUBIC
        )
        file = tmp_path / "photographs" / ("crow", "owl")[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), noise)
    return tmp_path / "photographs"


@pytest.mark.parametrize("change", ["quality", "half", "larger", "brighter", "cut", "marked"])
def test_nearly_equal_images_are_listed(photographs, noted, change):
    for first, other in ("crow/4.png", "crow/near.jpg"), ("crow/6.png", "owl/near.png"):
        cv2.imwrite(str(photographs / other), changed(cv2.imread(str(photographs / first)), change))
    assert noted(photographs, thorough=True)[1] == [
        f"{copies.NEAR_IN_ONE_CLASS}: crow/4.png and crow/near.jpg",
        f"{copies.NEAR_UNDER_CLASSES}: crow/6.png (crow) and owl/near.png (owl)",
    ]
    assert noted(photographs)[1] == []  # training does not look for them


def test_pictures_of_one_colour_are_not_nearly_equal(photographs, noted):
    for k, level in enumerate((100, 101, 102)):
        cv2.imwrite(str(photographs / f"crow/flat{k}.png"), np.full((20, 20, 3), level, np.uint8))
    assert noted(photographs, thorough=True)[1] == []


def test_a_series_is_one_group_and_equal_images_are_not_named_again(photographs, noted, monkeypatch):
    monkeypatch.setattr(copies, "_BLOCK", 7)  # pairs lie in different blocks
    image = cv2.imread(str(photographs / "owl/39.png"))
    for k in range(3):
        cv2.imwrite(str(photographs / f"owl/z{k}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90 - 20 * k])
    copy(photographs, "owl/1.png", "owl/1 copy.png")
    assert noted(photographs, thorough=True)[1] == [
        f"{copies.IN_ONE_CLASS}{copies.BOUND}: owl/1 copy.png and owl/1.png",
        f"{copies.NEAR_IN_ONE_CLASS}: owl/39.png and owl/z0.jpg and owl/z1.jpg and owl/z2.jpg",
    ]


def test_more_images_than_can_be_compared_are_said(photographs, noted, monkeypatch, capsys):
    monkeypatch.setattr("cdml_jax.data.checking.verify.MOST_COMPARED", 39)
    cv2.imwrite(str(photographs / "crow/near.jpg"), cv2.imread(str(photographs / "crow/4.png")))
    assert noted(photographs, thorough=True)[1] == []
    assert (
        "Nearly equal images were not looked for: there are more than 39 images." in capsys.readouterr().out
    )
