"""Markdown of names and values that may hold anything: tables, text, code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cdml_jax.configuration.keys import flat
from cdml_jax.system.console import escaped, harmless


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A Markdown table whose columns are padded to line up in monospace.

    Args:
      header: one name per column.
      rows: one cell per column each.
      align: one letter per column, "l" or "r".

    Returns:
      The table, ending in a newline.

    >>> print(markdown_table(["bird", "n"], [["wren", "12"], ["tit", "3"]], "lr"), end="")
    | bird |  n |
    |:-----|---:|
    | wren | 12 |
    | tit  |  3 |
    """
    cells = [
        [escaped(cell.replace("|", "\\|").replace("\n", " ")) for cell in row] for row in [header, *rows]
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        ]
        lines.append("| " + " | ".join(padded) + " |")
    rule = [
        ":" + "-" * (width + 1) if side == "l" else "-" * (width + 1) + ":"
        for width, side in zip(widths, align, strict=True)
    ]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(lines) + "\n"


def settings_table(settings: Mapping[str, Any]) -> str:
    """A table of settings by dotted keys; nested ones are flattened."""
    lines = [
        [key, "" if value is None else plain_text(str(value), plain="_*")]
        for key, value in flat(settings).items()
    ]
    return markdown_table(["setting", "value"], lines, "ll") if lines else "None recorded."


def plain_text(name: str, plain: str = "") -> str:
    """A name as plain Markdown text of one line; letters in `plain` are left as they are."""
    special = set("\\`*_[]<>#$&~") - set(plain)
    line = escaped(" ".join(name.splitlines()))
    return "".join("\\" + letter if letter in special else letter for letter in line)


def code_block(command: str) -> str:
    """Text as a block of code, whatever it holds."""
    longest = max(map(len, re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{harmless(command)}\n{fence}"
