"""Checks of single settings: ranges, shares, choices, names. Each message names the key and its value.

A part of the settings is a frozen dataclass that calls these from `__post_init__`; `group` is its name with a
dot behind it, such as "optimizer.", as it stands in front of the keys.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from cdml_jax.errors import UserError

OPEN = -1  # of a number that is chosen once the images are known


def at_least(group: str, settings: Any, **least: float) -> None:
    """Refuse numbers below their least, NaN and infinity.

    Raises:
      UserError: with the key, its value and the least.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if not value >= bound:
            raise UserError(f"{group}{name}: {value} must be at least {bound}")
        if value == math.inf:
            raise UserError(f"{group}{name}: inf must be finite")


def at_least_or_open(group: str, settings: Any, **least: int) -> None:
    """Refuse numbers below their least, but for `OPEN`, which leaves the number to the images.

    Raises:
      UserError: with the key, its value and the least.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value < bound and value != OPEN:
            raise UserError(
                f"{group}{name}: {value} must be at least {bound}, or {OPEN} to leave it to the images"
            )


def shares(group: str, settings: Any, *names: str) -> None:
    """Refuse numbers outside 0 to 1.

    Raises:
      UserError: with the key and its value.
    """
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:
            raise UserError(f"{group}{name}: {value} must be from 0 to 1")


def one_of(group: str, settings: Any, **choices: Collection[str]) -> None:
    """Refuse words that are not among their choices.

    Raises:
      UserError: with the key, its value and the choices.
    """
    for name, allowed in choices.items():
        value = getattr(settings, name)
        if value not in allowed:
            named = ", ".join(choice or '""' for choice in allowed)
            raise UserError(f"{group}{name}: {value!r} is unknown; choose one of {named}")


def names(group: str, settings: Any, *fields: str) -> None:
    """Refuse tuples that hold anything but text.

    Raises:
      UserError: with the key and the element.
    """
    for field in fields:
        for value in getattr(settings, field):
            if not isinstance(value, str):
                raise UserError(f"{group}{field}: {value!r} is not a name")
