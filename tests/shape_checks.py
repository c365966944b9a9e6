"""The shapes that the package's annotations name, checked at every call while tests run.

The package imports jaxtyping under `TYPE_CHECKING` alone, so that the base install needs jax and numpy only.
Here its names are put into each module before the module's functions are decorated.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import re
import sys
from types import ModuleType
from typing import Any, runtime_checkable

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype

# Whatever takes an array of the devices takes one of the host too.
Array = jax.Array | np.ndarray
_KINDS = ("Bool", "Float", "Int", "Integer", "Num", "PRNGKeyArray", "UInt8", "UInt32")
NAMES = {"Array": Array} | {name: getattr(jaxtyping, name) for name in _KINDS}

# An int is a float here, as it is for mypy.
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_SHAPE = re.compile(rf"\b({'|'.join(_KINDS)})\b")


def typechecker(function: Any) -> Any:
    """`function`, with those of its arguments and results checked whose annotations name a shape.

    The rest are mypy's business: they name protocols and types that are imported for mypy alone.
    """
    shaped = {name: hint for name, hint in function.__annotations__.items() if _SHAPE.search(str(hint))}
    function.__annotations__ = shaped
    return _checked(function) if shaped else function


class _WithNames(importlib.abc.Loader):
    """Runs a module in which jaxtyping's names are there already."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(NAMES)
        self._loader.exec_module(module)
        for value in list(vars(module).values()):
            if isinstance(value, type) and getattr(value, "_is_protocol", False):
                runtime_checkable(value)  # "this shape, or whatever answers these questions"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the package's modules as jaxtyping's own hook does, and adds the names."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        spec = self._finder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WithNames(spec.loader)
        return spec


def install(package: str) -> None:
    """Check the annotated shapes of `package` from its import on."""
    jaxtyping.install_import_hook(package, f"{__name__}.typechecker")
    sys.meta_path[0] = _Finder(sys.meta_path[0])
