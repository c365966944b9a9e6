"""Names of the leaves of a tree of arrays, and a digest of them."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their dotted names, in the tree's order.

    >>> named_leaves({"blocks": [{"kernel": 1}, {"kernel": 2}], "bias": 3})
    [('bias', 3), ('blocks.0.kernel', 1), ('blocks.1.kernel', 2)]
    """
    return [(dotted_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def dotted_name(path: tuple) -> str:
    """A leaf's path as `jax.tree_util` gives it, with dots between: `blocks.0.conv1.kernel`."""
    return ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)


def digest_of_arrays(tree: Any) -> str:
    """SHA-256 of the bytes of all leaves, in the tree's order; their names and shapes are not in it."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
