"""Data sets: `Dataset` and `ArraySource` for images in memory, `sources.load` for everything by name.

>>> import numpy as np
>>> from cdml_jax.data import ArraySource, Classes, Dataset
>>> train = ArraySource(np.zeros((4, 8, 8, 3), np.uint8), [0, 0, 1, 1])
>>> Dataset("mine", Classes(("crow", "owl")), {"train": train}).num_classes
2
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdml_jax.data.classes import Classes
    from cdml_jax.data.dataset import ArraySource, Dataset, Source

__all__ = ["ArraySource", "Classes", "Dataset", "Source"]

# Loaded when first asked for, so that importing one file of this folder does not import others.
_MODULES = {"ArraySource": "dataset", "Classes": "classes", "Dataset": "dataset", "Source": "dataset"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cdml_jax.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cdml_jax.data.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
