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


def test_the_table_on_paper_is_written_from_its_results(write_page):
    module, text = write_page, (ROOT / "docs" / "clusters.md").read_text()
    result = json.loads((ROOT / "benchmarks" / "results" / "scaling_model.json").read_text())
    assert text == module.with_table(text, module.on_paper(result))
    assert text.count(result["table"][0]["set"]) >= 2
    steps = json.loads((ROOT / "benchmarks" / "results" / "tpu_steps.json").read_text())["cases"]
    table = module.page_tpu.crossing(steps[module.page_tpu.SCALED], steps[module.page_tpu.GROUPED])
    assert text == module.with_table(text, table, "crossing")


def test_the_page_is_written_from_the_results(write_page):
    assert (ROOT / "docs" / "performance.md").read_text() == write_page.page(ROOT / "benchmarks" / "results")
