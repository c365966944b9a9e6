"""A configuration has the keys of `configs/base.py`, all of them and no other, each of its type."""

from __future__ import annotations

import difflib
from typing import Any

from ml_collections import ConfigDict

from cdml_jax.configs import base
from cdml_jax.errors import UserError


def check_keys(config: ConfigDict) -> None:
    """Refuse a configuration that no command line could have made: from a person's file, or an older run's.

    Raises:
      UserError: it is no ConfigDict, has a key too many or too few, or a value of another type.
    """
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config: get_config() gave {type(config).__name__}, not a ConfigDict; "
            "begin with base.get_config() of cdml_jax.configs"
        )
    _compare(config, base.get_config(), "")


def _compare(config: ConfigDict, whole: ConfigDict, prefix: str) -> None:
    for key in config:
        if key not in whole:
            near = difflib.get_close_matches(key, list(whole), n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(whole)}"
            raise UserError(f"{prefix}{key}: there is no such key; {hint}")
    for key, value in whole.items():
        if key not in config:
            raise UserError(
                f"{prefix}{key}: the configuration lacks this key; begin with base.get_config() of "
                "cdml_jax.configs"
            )
        if isinstance(value, ConfigDict) and isinstance(config[key], ConfigDict):
            _compare(config[key], value, f"{prefix}{key}.")
        elif _kind(config[key]) is not _kind(value) and (type(config[key]), type(value)) != (int, float):
            raise UserError(f"{prefix}{key}: {config[key]!r} is no {_kind(value).__name__}")


def _kind(value: Any) -> type:
    return tuple if isinstance(value, list) else type(value)
