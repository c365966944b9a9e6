"""Images cut out by the boxes of a file: which pixels, which names, and what is refused."""

import numpy as np
import pytest

from cdml_jax.configuration import places, settings
from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.data.dividing.boxes import cut_out
from cdml_jax.data.readers.boxes import Box, read_boxes, write_boxes
from cdml_jax.errors import UserError

HEAD = "image,left,top,right,bottom,width,height,found\n"


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 20, 40, 3)).astype(np.uint8)


@pytest.fixture
def dataset(images):
    splits = {
        "train": ArraySource(images[:2], [0, 1], ["a,b.png", "c.png"]),
        "test": ArraySource(images[2:], [1], ["d.png"]),
    }
    return Dataset("mine", Classes(("crow", "owl")), splits)


def test_each_image_is_what_is_inside_its_box(dataset, images, tmp_path, capsys):
    path = tmp_path / "boxes.csv"
    boxes = {
        "a,b.png": Box(0.25, 0.1, 0.75, 0.5, 40, 20),
        "c.png": Box(0, 0, 1, 1, 40, 20, False),
        "d.png": Box(0.5, 0.5, 0.505, 0.51, 400, 200),  # found in a larger copy; less than a pixel here
        "other.png": Box(0, 0, 1, 1, 1, 1),
    }
    write_boxes(path, boxes.items())
    assert read_boxes(path) == boxes
    assert "a,b.png" in path.read_text().splitlines()[1]
    cut = cut_out(dataset, str(path))
    np.testing.assert_array_equal(cut.splits["train"].image(0), images[0, 2:10, 10:30])
    np.testing.assert_array_equal(cut.splits["train"].image(1), images[1])
    np.testing.assert_array_equal(cut.splits["test"].image(0), images[2, 10:11, 20:21])
    assert cut.fingerprint() == dataset.fingerprint()
    said = "3 images are cut out by the boxes of"
    assert said in capsys.readouterr().out
    assert cut_out(dataset, "") is dataset


def test_what_is_no_box_is_refused_by_its_line(dataset, tmp_path):
    path = tmp_path / "boxes.csv"
    for text, message in (
        (
            HEAD + "a.png,0,0,8,9,8,9,1\n",
            "has no box for 3 of 3 images, such as a,b.png; its names",
        ),
        (HEAD + "a.png,5,0,5,9,8,9,1\n", "line 2: a box is 0 <= left < right <= width"),
        (HEAD + "a.png,0,0,9,9,8,9,1\n", "line 2: a box is 0 <= left < right <= width"),
        (HEAD + "a.png,0,0,nan,9,8,9,1\n", "line 2: a box is 0 <= left < right <= width"),
        (HEAD + "a.png,0,0,8,9\n", "line 2: not a name and seven numbers"),
        (HEAD + 2 * "a.png,0,0,8,9,8,9,1\n", "line 3: a.png has two boxes"),
        ("image,box\n", "line 1: the columns are not image, left, top"),
        (HEAD, "holds no box"),
        ("", "holds no box"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            cut_out(dataset, str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        cut_out(dataset, str(path))
    with pytest.raises(UserError, match=r"data.boxes: .*nowhere.csv cannot be opened"):
        cut_out(dataset, str(tmp_path / "nowhere.csv"))


def test_settings_name_the_file_and_its_content(images, tmp_path, monkeypatch):
    import cv2

    for name, image in zip(("crow/a.png", "crow/b.png", "owl/c.png"), images):
        (tmp_path / "birds" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "birds" / name), image[:, :, ::-1])
    box = Box(0.25, 0, 1, 0.5, 40, 20)
    write_boxes(tmp_path / "boxes.csv", [(name, box) for name in ("crow/a.png", "crow/b.png", "owl/c.png")])
    monkeypatch.chdir(tmp_path)
    changes = {"source": "folder:birds", "data.boxes": "boxes.csv", "data.data_dir": str(tmp_path)}
    config = settings.changed(settings.defaults(), changes)
    np.testing.assert_array_equal(load_dataset(config).splits["train"].image(1), images[1, :10, 10:])
    plain = places.from_the_root(settings.to_plain(config))
    assert plain["data"]["boxes"] == str(tmp_path / "boxes.csv")
    before = places.digests(plain)["data.boxes"]
    write_boxes(tmp_path / "boxes.csv", [("crow/a.png", box)])
    assert places.digests(plain)["data.boxes"] != before
