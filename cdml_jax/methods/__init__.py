"""What tables compare: a method is a file here and a line of `METHODS`, or a value in your configuration."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from cdml_jax.errors import UserError
from cdml_jax.methods import (
    bilinear,
    cdml,
    confused_classes,
    controls,
    dropping,
    mutual_channel,
    navigation,
    object_crop,
    pairwise_confusion,
    progressive,
    soft_mining,
    spatial_transformer,
    two_levels,
)
from cdml_jax.methods.cdml import PAPER
from cdml_jax.methods.facts import Facts, by_confusion, by_error_rate, ones, rates, uniform
from cdml_jax.methods.method import Method

__all__ = [
    "METHODS",
    "PAPER",
    "Facts",
    "Method",
    "by_confusion",
    "by_error_rate",
    "known_methods",
    "named_method",
    "ones",
    "rates",
    "uniform",
]


def known_methods(own: Mapping[str, Any]) -> dict[str, Method]:
    """The package's methods and those of a configuration file.

    Args:
      own: what the file's `get_methods()` gave.

    Raises:
      UserError: one of them is not a `Method`, or has a name that the package uses or no file may have.
    """
    for name, method in own.items():
        if not isinstance(method, Method):
            raise UserError(
                f"get_methods(): {name} is {type(method).__name__}, not a cdml_jax.methods.Method"
            )
        if name in METHODS:
            raise UserError(f"get_methods(): {name} is a method of the package; choose another name")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
            raise UserError(f"get_methods(): {name!r} names files; use letters, digits and _ . + -")
    return METHODS | dict(own)


def named_method(name: str, methods: Mapping[str, Method] | None = None) -> Method:
    """The method of that name.

    Args:
      name: a key of `methods`.
      methods: those of a configuration file besides the package's; None for the package's alone.

    Raises:
      UserError: there is none.
    """
    known = METHODS if methods is None else methods
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
        raise UserError(f"method: {name!r} is unknown; {hint}")
    return known[name]


METHODS: dict[str, Method] = {
    **cdml.METHODS,
    **controls.METHODS,
    **pairwise_confusion.METHODS,
    **mutual_channel.METHODS,
    **soft_mining.METHODS,
    **two_levels.METHODS,
    **dropping.METHODS,
    **bilinear.METHODS,
    **progressive.METHODS,
    **navigation.METHODS,
    **spatial_transformer.METHODS,
    **object_crop.METHODS,
    **confused_classes.METHODS,
}
