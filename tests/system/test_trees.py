"""Names of leaves, whatever the containers are."""

from typing import NamedTuple

import jax
import numpy as np

from cdml_jax.system.trees import dotted_name, named_leaves


class Pair(NamedTuple):
    first: object
    second: object


def test_leaves_are_named_by_keys_places_and_fields():
    tree = Pair({"b": [np.zeros(2), None, np.ones(3)], "a": 5}, (7,))
    names = ["first.a", "first.b.0", "first.b.2", "second.0"]
    assert [name for name, _ in named_leaves(tree)] == names
    assert [leaf for _, leaf in named_leaves(tree)][::3] == [5, 7]


def test_names_are_those_that_a_map_with_paths_sees():
    seen = []
    tree = {"blocks": {0: {"kernel": 1}, 1: {"kernel": 2}}}
    jax.tree_util.tree_map_with_path(lambda path, leaf: seen.append((dotted_name(path), leaf)), tree)
    assert seen == named_leaves(tree) == [("blocks.0.kernel", 1), ("blocks.1.kernel", 2)]
