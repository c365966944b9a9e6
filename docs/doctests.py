"""Doctests of docstrings as code on the site: Markdown takes `>>>` for quotations and `[…]` for links."""

from __future__ import annotations

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^(?P<indent>[ ]*)>>> .*\n?(?:(?P=indent)\S.*\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around each doctest of a docstring, from `>>>` to the next empty line."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring with its doctests in fences."""
    return _DOCTEST.sub(_fence, text)


def _fence(found: re.Match[str]) -> str:
    indent = found["indent"]
    return f"{indent}```python\n{found[0].rstrip()}\n{indent}```\n"
