"""What the storages share: predictions, triplets of microbatches, compiling, moving to the host."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from cdml_jax.sampling import Triplets, sample_triplets
from cdml_jax.training.mesh import replicated

Counts = Any  # (C, C), or its rows, or TopConfusions
PairWeights = Any  # (C, C), or its rows, or TopPairWeights


@functools.cache
def compiled(function: Any, out_shardings: Any, static_argnames: tuple[str, ...] = ()) -> Any:
    """`function`, of a module, compiled once with its results placed so, as several hosts must have them."""
    return jax.jit(function, out_shardings=out_shardings, static_argnames=static_argnames)


def to_host(matrix: Any) -> np.ndarray:
    """A matrix whose rows may lie on several hosts, on this one; no device holds it whole."""
    if not isinstance(matrix, jax.Array) or matrix.is_fully_addressable:
        return np.asarray(matrix)
    sharding: Any = matrix.sharding
    rows = sharding.shard_shape(matrix.shape)[0]
    take = jax.jit(
        lambda a, begin: jax.lax.dynamic_slice_in_dim(a, begin, rows), out_shardings=replicated(sharding.mesh)
    )
    parts = (take(matrix, np.int32(begin)) for begin in range(0, matrix.shape[0], rows))
    return np.concatenate([np.asarray(part) for part in parts])


def abstract(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """An array that is not there yet, and where it will lie."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def predictions_of(logits: jax.Array, soft: bool) -> jax.Array:
    """What counts of a batch add: probabilities (B, C) if soft, else classes (B,)."""
    return jax.nn.softmax(logits) if soft else jnp.argmax(logits, axis=1)


def draw_parts(
    keys: jax.Array,
    labels: jax.Array,
    pairs: PairWeights,
    *,
    num_triplets: int,
    rows_axis: str | None = None,
) -> Triplets:
    """Triplets of each microbatch, by a key for each; a row of label −1 does not count."""

    def draw(key, labels):
        return sample_triplets(
            key, labels, pairs, num_triplets=num_triplets, where=labels >= 0, rows_axis=rows_axis
        )

    return jax.vmap(draw)(keys, labels)
