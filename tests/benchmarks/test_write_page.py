"""The page of measurements is what its script writes from the committed results."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def write_page():
    spec = importlib.util.spec_from_file_location("write_page", ROOT / "benchmarks" / "write_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_on_paper_is_written_from_its_results():
    module, text = write_page(), (ROOT / "docs" / "clusters.md").read_text()
    result = json.loads((ROOT / "benchmarks" / "results" / "scaling_model.json").read_text())
    assert text == module.with_table(text, module.on_paper(result))
    assert text.count(result["table"][0]["set"]) >= 2


def test_the_page_is_written_from_the_results():
    module = write_page()
    assert (ROOT / "docs" / "performance.md").read_text() == module.page(ROOT / "benchmarks" / "results")
