"""The page of measurements is what its script writes from the committed results."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_page_is_written_from_the_results():
    spec = importlib.util.spec_from_file_location("write_page", ROOT / "benchmarks" / "write_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "performance.md").read_text() == module.page(ROOT / "benchmarks" / "results")
