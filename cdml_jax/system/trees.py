"""Names of the leaves of a tree of arrays."""

from __future__ import annotations

from typing import Any

import jax


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their dotted names, in the tree's order.

    >>> named_leaves({"blocks": [{"kernel": 1}, {"kernel": 2}], "bias": 3})
    [('bias', 3), ('blocks.0.kernel', 1), ('blocks.1.kernel', 2)]
    """
    return [(dotted_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def dotted_name(path: tuple) -> str:
    """A leaf's path as `jax.tree_util` gives it, with dots between: `blocks.0.conv1.kernel`."""
    return ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
