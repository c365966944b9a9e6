"""The picture of drawn birds that the documents show."""

import importlib
from pathlib import Path

import cv2
import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def bird_sheet(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("bird_sheet")


def test_a_contact_sheet_is_written(bird_sheet, tmp_path):
    path = tmp_path / "deep" / "sheet.png"
    bird_sheet.contact_sheet("demo", path, num_families=3, species=2, images=2)
    assert cv2.imread(str(path)).shape[2] == 3
