"""Each side of the input's benchmark makes the views that it says it makes."""

import importlib
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def sides(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("input_sides")


@pytest.fixture
def folder(tmp_path):
    y, x = np.mgrid[:60, :80]
    (tmp_path / "birds").mkdir()
    for number in range(5):
        image = np.uint8(np.stack([3 * x, 40 * number + y, 230 - y - x], -1))
        cv2.imwrite(str(tmp_path / "birds" / f"{number}.JPG"), image[..., ::-1])
    return tmp_path


@pytest.mark.parametrize("name", ["ours", "ours kept"])
def test_ours_gives_as_many_batches_as_asked_beyond_the_end_of_the_images(sides, folder, name):
    assert sides.photographs(folder) == [f"birds/{number}.JPG" for number in range(5)]
    batches = list(sides.side(name, 1)(folder, 3, 24, 0.2)(0, 4))
    assert [(one.shape, one.dtype) for one in batches] == [((3, 24, 24, 3), np.uint8)] * 4


@pytest.mark.parametrize("draft", [False, True])
def test_pillows_view_is_the_box_scaled_and_mirrored_half_of_the_time(sides, folder, monkeypatch, draft):
    monkeypatch.setattr(sides, "box_of", lambda width, height: (12, 5, 60, 50))
    path = str(folder / "birds" / "2.JPG")
    box = cv2.imread(path)[5:55, 12:72, ::-1]
    wanted = cv2.resize(box, (20, 20), interpolation=cv2.INTER_AREA).astype(int)
    views = [sides.view_by_pillow(path, 20, 0.0, draft) for _ in range(40)]
    mirrored = [np.abs(view[:, ::-1] - wanted).mean() < 4 for view in views]
    assert 5 < sum(mirrored) < 35
    assert all(np.abs(view - wanted).mean() < 4 for view, other in zip(views, mirrored) if not other)


def test_boxes_keep_to_their_area_and_aspect(sides):
    boxes = np.array([sides.box_of(400, 300) for _ in range(500)])
    area, aspect = boxes[:, 2] * boxes[:, 3] / 120_000, boxes[:, 2] / boxes[:, 3]
    assert (0.34 < area.min() < 0.4) & (0.9 < area.max() <= 1)
    assert (0.74 < aspect.min() < 0.8) & (1.25 < aspect.max() < 1.34)
    assert (boxes.min() >= 0) & (boxes[:, :2] + boxes[:, 2:] <= (400, 300)).all()
