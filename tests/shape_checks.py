"""The shapes that the package's annotations name, checked at every call while tests run.

The package imports jaxtyping under `TYPE_CHECKING` alone, so that the base install needs jax and numpy only.
Here its names are put into each module before the module's functions are decorated.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype

# Whatever takes an array of the devices takes one of the host; ShapeDtypeStructs pass where shapes are derived.
Array = jax.Array | np.ndarray
NAMES = {"Array": Array} | {
    name: getattr(jaxtyping, name)
    for name in ("Bool", "Float", "Int", "Num", "PRNGKeyArray", "UInt8", "UInt32")
}

# An int is a float here, as it is for mypy.
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def typechecker(function: Any) -> Any:
    """`function`, with its arguments checked."""
    return _checked(function)


class _WithNames(importlib.abc.Loader):
    """Runs a module in which jaxtyping's names are there already."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(NAMES)
        self._loader.exec_module(module)

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
