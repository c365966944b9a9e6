"""The methods' colours, in pictures and on the page."""

from __future__ import annotations

from collections.abc import Iterable

from cdml_jax.reporting.paper import TABLE_2

# Okabe and Ito's palette: distinguishable with any of the usual colour blindnesses, and in grey.
PAPER_COLOURS = dict(zip(TABLE_2, ("#a6a6a6", "#e69f00", "#56b4e9", "#0064a0"), strict=True))
_OTHER_COLOURS = ("#cc79a7", "#009e73", "#d55e00", "#000000", "#b8a800", "#7b4b94")


def colours(methods: Iterable[str]) -> dict[str, str]:
    """Method -> colour: the paper's methods have their own, the others take turns in order of appearance."""
    others = [method for method in methods if method not in PAPER_COLOURS]
    return PAPER_COLOURS | {name: _OTHER_COLOURS[k % len(_OTHER_COLOURS)] for k, name in enumerate(others)}
