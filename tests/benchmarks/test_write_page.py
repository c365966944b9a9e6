"""The page of measurements is what its script writes from the committed results."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def write_page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("write_page")


def test_the_tables_of_clusters_are_written_from_their_results(write_page):
    text, results = (ROOT / "docs" / "clusters.md").read_text(), ROOT / "benchmarks" / "results"
    assert text == write_page.with_tables(text, results)
    paper = json.loads((results / "scaling_model.json").read_text())
    assert text.count(paper["table"][0]["set"]) >= 2


def test_the_page_is_written_from_the_results(write_page):
    assert (ROOT / "docs" / "performance.md").read_text() == write_page.page(ROOT / "benchmarks" / "results")
