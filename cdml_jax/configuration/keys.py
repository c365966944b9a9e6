"""The keys of a configuration and the type of each value: one judge for files, flags, JSON and Python.

`configs/base.py` is the reference. All of it works on nested dictionaries, so that a misspelt key is answered
before anything else is imported.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from cdml_jax.errors import UserError

_KINDS = {bool: "a bool", int: "an int", float: "a float", str: "a str", tuple: "a tuple"}
_LATER = ("live",)  # keys that runs of older versions lack, whose default is what those did
_BOOLS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def defaults() -> dict[str, Any]:
    """The values of `configs/base.py`, nested and sorted by their keys."""
    from cdml_jax.configs import base  # here: it does not come with the base install

    return base.get_config().to_dict()


def fitted(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, sorted by their keys, each of its key's type.

    An int becomes a float and a list a tuple where the key wants one; a bool is not an int.

    Raises:
      UserError: a key too many or too few, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"configuration: {values!r} is not a group of keys")
    return _fitted(values, defaults(), "")


def replaced(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with others at some dotted keys.

    Raises:
      UserError: a key that does not exist, or a value of another type.
    """
    whole = fitted(values)
    reference = defaults()
    for key, value in changes.items():
        group, name = _place(whole, key, "")
        group[name] = _of_type(value, _place(reference, key, "")[0][name], key)
    return whole


def overridden(values: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values with those that flags give as text at some dotted keys.

    >>> changes = {"epochs": "20", "image.flip": "false", "reproduce.methods": "baseline,cdml"}
    >>> after = overridden(defaults(), changes)
    >>> after["epochs"], after["image"]["flip"], after["reproduce"]["methods"]
    (20, False, ('baseline', 'cdml'))

    Raises:
      UserError: a key that does not exist, or text that is not of the key's type.
    """
    whole = fitted(values)
    reference = defaults()
    for key, text in texts.items():
        group, name = _place(whole, key, "--config.")
        kind = _place(reference, key, "")[0][name]
        try:
            group[name] = _parsed(text, kind)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise UserError(f"--config.{key}: {text!r} is not {_KINDS[type(kind)]}") from error
    return whole


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values by dotted keys, in their order.

    >>> flat({"epochs": 3, "mesh": {"data": -1}})
    {'epochs': 3, 'mesh.data': -1}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def text_of(value: Any) -> str:
    """A value as a flag has it; `overridden` reads it back.

    >>> text_of(("baseline", "cdml")), text_of((0.35, 1.0)), text_of(False), text_of("")
    ('baseline,cdml', '0.35,1.0', 'False', '')
    """
    if isinstance(value, tuple):
        joined = ",".join(map(str, value))
        return joined if _tuple_of(joined, value) == value else repr(value)
    return str(value)


def _fitted(values: Mapping[str, Any], reference: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    for key in values:
        if key not in reference:
            raise _unknown(prefix, key, reference)
    whole = {}
    for key, default in reference.items():
        if key not in values and prefix + key in _LATER:
            whole[key] = default
            continue
        if key not in values:
            raise UserError(
                f"{prefix}{key}: the configuration lacks this key; begin with base.get_config() of "
                "cdml_jax.configs"
            )
        value = values[key]
        if not isinstance(default, Mapping):
            whole[key] = _of_type(value, default, prefix + key)
        elif isinstance(value, Mapping):
            whole[key] = _fitted(value, default, f"{prefix}{key}.")
        else:
            raise UserError(f"{prefix}{key}: {value!r} is not a group of keys")
    return whole


def _of_type(value: Any, default: Any, key: str) -> Any:
    """The value as one of the default's type; what a tuple may hold is judged by who reads it."""
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if type(value) is not type(default):
        raise UserError(f"{key}: {value!r} is not {_KINDS[type(default)]}")
    return value


def _place(values: dict[str, Any], key: str, prefix: str) -> tuple[dict[str, Any], str]:
    """The group that a dotted key is in, and its name there."""
    *groups, name = key.split(".")
    begin = prefix
    for part in (*groups, name):
        if not isinstance(values, Mapping):
            raise UserError(f"{prefix}{key}: there is no such key; {begin.rstrip('.')} is a value")
        if part not in values:
            raise _unknown(begin, part, values, prefix + key)
        group, values = values, values[part]
        begin += f"{part}."
    if isinstance(values, Mapping):
        raise UserError(f"{prefix}{key}: is a group of keys; set one of {', '.join(values)}")
    return group, name


def _unknown(prefix: str, part: str, known: Mapping[str, Any], whole: str = "") -> UserError:
    near = difflib.get_close_matches(str(part), list(known), n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(known)}"
    return UserError(f"{whole or prefix + part}: there is no such key; {hint}")


def _parsed(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in _BOOLS:
            raise ValueError(text)
        return _BOOLS[text.lower()]
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            return int(text, 0)  # 0x10
    if isinstance(default, float):
        return float(text)
    return _tuple_of(text, default) if isinstance(default, tuple) else text


def _tuple_of(text: str, default: tuple) -> tuple:
    """Elements between commas, or a tuple or list as Python writes it."""
    if not text.strip():
        return ()
    numbers = bool(default) and not isinstance(default[0], str)
    if not numbers and text.strip()[0] not in "([\"'":
        return tuple(part.strip() for part in text.split(","))
    value = ast.literal_eval(text.strip())
    return tuple(value) if isinstance(value, tuple | list) else (value,)
