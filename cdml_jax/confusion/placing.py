"""Functions compiled with their results placed where several processes must have them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


@functools.cache
def compiled(function: Any, out_shardings: Any, static_argnames: tuple[str, ...] = ()) -> Any:
    """`function`, of a module, compiled once with its results placed as several processes must have them."""
    return jax.jit(function, out_shardings=out_shardings, static_argnames=static_argnames)


def whole(matrix: jax.Array) -> NamedSharding:
    """The sharding by which each device of a matrix's mesh has all of it."""
    sharding: Any = matrix.sharding
    return NamedSharding(sharding.mesh, PartitionSpec())


def to_host(matrix: jax.Array) -> np.ndarray:
    """A matrix whose rows may lie in several processes, in this one; no device holds it whole."""
    if matrix.is_fully_addressable:
        return np.asarray(matrix)
    sharding: Any = matrix.sharding
    rows = sharding.shard_shape(matrix.shape)[0]
    take = jax.jit(lambda a, begin: jax.lax.dynamic_slice_in_dim(a, begin, rows), out_shardings=whole(matrix))
    parts = (take(matrix, np.int32(begin)) for begin in range(0, matrix.shape[0], rows))
    return np.concatenate([np.asarray(part) for part in parts])
