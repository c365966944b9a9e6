"""How well embeddings retrieve their own class, by exact neighbours, and how well clusters match classes.

Descriptors that need no training (SCDA, DDT) are in `cdml_jax.retrieval.descriptors`.

from cdml_jax.retrieval import nearest, normalized_mutual_information, retrieval
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cdml_jax.retrieval.descriptors import descriptor_transform, selective_descriptors
from cdml_jax.retrieval.measures import Retrieval, retrieval
from cdml_jax.retrieval.neighbours import nearest

if TYPE_CHECKING:
    from cdml_jax.retrieval.clustering import normalized_mutual_information

__all__ = [
    "Retrieval",
    "descriptor_transform",
    "nearest",
    "normalized_mutual_information",
    "retrieval",
    "selective_descriptors",
]


def __getattr__(name: str) -> Any:
    # Clustering needs scikit-learn, which is not part of the core.
    if name == "normalized_mutual_information":
        return importlib.import_module("cdml_jax.retrieval.clustering").normalized_mutual_information
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
