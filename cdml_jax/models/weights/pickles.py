"""Tables of tensors from PyTorch's own files, by `torch.load(weights_only=True)`: no code of them is run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdml_jax.errors import UserError
from cdml_jax.system.console import escaped

_ADVICE = "save model.state_dict(), where it was made, as a file of its own"
_DEEPEST = 2  # levels of dictionaries in which tables are looked for


def read_pickle(path: Path, table: str = "") -> tuple[dict[str, np.ndarray], str]:
    """Arrays by name from a file of `torch.save`.

    Args:
      path: the file.
      table: which of several tables, by its name in the file: "state_dict_ema", or "model.net" below another.

    Returns:
      The arrays, and the name of their table; "" where the file is the table.

    Raises:
      UserError: torch is not installed, the file is damaged, holds more than tensors, or several tables of
        which none is named.
    """
    origin = f"model.weights: {escaped(str(path))}"
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{origin} is a pickle of PyTorch: it needs torch, which is not installed; save the tensors as "
            ".safetensors"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about forms of files that are read all the same
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise what they like on a damaged or unsafe file
        raise UserError(f"{origin} {_refusal(str(error))}") from error
    tables = _tables(content, torch.Tensor)
    # Small tables of other things, such as states of random draws, have no array of a layer.
    tables = {name: each for name, each in tables.items() if any(v.ndim > 1 for v in each.values())} or tables
    if table and table not in tables:
        there = f"; it has {_listed(tables)}" if any(tables) else ""
        raise UserError(f"{origin} has no table {table!r} of tensors{there}")
    if not tables:
        raise UserError(f"{origin} holds no table of tensors; {_ADVICE}")
    if len(tables) > 1 and not table:
        example = escaped(min(tables))
        raise UserError(
            f"{origin} holds {_listed(tables)}: name one, as in model.weights={path.name}#{example}"
        )
    name = table or next(iter(tables))
    return {key: _array(value, origin, key) for key, value in tables[name].items()}, name


def _refusal(error: str) -> str:
    """Why torch did not read a file, in a sentence of ours: its own are pages, with advice that is unsafe."""
    forbidden = re.search(r"GLOBAL ([\w.]+)", error)
    if "TorchScript" in error:
        return f"is a program of TorchScript; {_ADVICE}"
    if forbidden:
        return f"holds more than tensors ({forbidden[1]}), which would run code and is not done; {_ADVICE}"
    return "is not a readable pickle of PyTorch: it is damaged or cut short, or of another program"


def _tables(content: Any, tensor: type, prefix: str = "", depth: int = 0) -> dict[str, Mapping[str, Any]]:
    """Tables of tensors by their dotted names; the content itself is `""`.

    A table has tensors alone, by names, and some of them hold floating-point numbers.
    """
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return {}
    values = list(content.values())
    if values and all(isinstance(value, tensor) for value in values):
        return {prefix: content} if any(value.is_floating_point() for value in values) else {}
    found: dict[str, Mapping[str, Any]] = {}
    if depth < _DEEPEST:
        for key, value in content.items():
            found |= _tables(value, tensor, f"{prefix}.{key}" if prefix else key, depth + 1)
    return found


def _array(value: Any, origin: str, name: str) -> np.ndarray:
    try:
        value = value.detach()
        short = value.is_floating_point() and value.element_size() < 4
        return (value.float() if short else value).numpy()
    except Exception as error:  # sparse, quantised and empty-handed tensors have no such form
        raise UserError(
            f"{origin}: {escaped(name)} is not a plain array of numbers ({type(error).__name__})"
        ) from error


def _listed(tables: Mapping[str, Any]) -> str:
    names = [escaped(name) for name in sorted(tables)]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
