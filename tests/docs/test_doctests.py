"""What the site makes of the doctests in docstrings."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import cdml_jax.losses


@pytest.fixture
def doctests(monkeypatch):
    """docs/doctests.py, without griffe, which comes with the extra docs alone."""
    monkeypatch.setitem(sys.modules, "griffe", SimpleNamespace(Extension=object, Object=object))
    spec = importlib.util.spec_from_file_location("doctests", Path(__file__).parents[2] / "docs/doctests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_doctest_ends_at_the_next_empty_line(doctests):
    assert doctests.fenced("Twice.\n\n>>> 1 + 1\n2\n\nDone.") == (
        "Twice.\n\n```python\n>>> 1 + 1\n2\n```\n\nDone."
    )


def test_every_doctest_is_in_a_fence_and_nothing_else_is_changed(doctests):
    text = cdml_jax.losses.weighted_softmax_cross_entropy.__doc__
    after = doctests.fenced(text)
    assert after.replace("    ```python\n", "").replace("    ```\n", "") == text
    assert after.count("```python") == after.count("```\n") > 0
    inside = False
    for line in after.splitlines():
        inside = not inside if line.strip().startswith("```") else inside
        assert inside or not line.strip().startswith((">>>", "..."))
    assert doctests.fenced("no example\n") == "no example\n"


def test_objects_without_a_docstring_stay(doctests):
    seen = SimpleNamespace(docstring=SimpleNamespace(value=">>> 1\n1\n"))
    for thing in (seen, SimpleNamespace(docstring=None)):
        doctests.Doctests().on_object(obj=thing)
    assert seen.docstring.value == "```python\n>>> 1\n1\n```\n"
