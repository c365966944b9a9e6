"""Checksums of arrays that do not depend on how they are sharded, computed where they lie."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.system.trees import named_leaves


def checksums(tree: Any) -> dict[str, str]:
    """Checksum of each leaf by its dotted name: 16 hexadecimal digits.

    Two sums of the words of a leaf, modulo 2^32, each times an odd number that its place decides. Integers
    add up to the same in any order, so the number of devices does not matter; a single changed word always
    changes both. It finds damage, not forgery.

    >>> checksums({"a": jnp.arange(3)}) == checksums({"a": jnp.array([0, 1, 2])})
    True
    >>> checksums({"a": jnp.arange(3)}) == checksums({"a": jnp.array([0, 2, 1])})
    False
    """
    leaves = [leaf for _, leaf in named_leaves(tree)]
    # Numbers of 64 bits stay so, whatever JAX is set to.
    wide = any(np.dtype(leaf.dtype).itemsize == 8 for leaf in leaves if isinstance(leaf, np.ndarray))
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        sums = jax.device_get([_sums(leaf) for leaf in leaves])
    names = [name for name, _ in named_leaves(tree)]
    return {name: f"{int(first):08x}{int(second):08x}" for name, (first, second) in zip(names, sums)}


@jax.jit  # of one leaf: leaves of one shape share a program, and so do checkpoints of other trees
def _sums(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
    words = _words(leaf)
    place = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    mixed = place * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35)
    first = (words * (2 * place + 1)).sum(dtype=jnp.uint32)
    second = (words * ((mixed ^ (mixed >> 13)) | 1)).sum(dtype=jnp.uint32)
    return first, second


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of an array as uint32."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    bits = leaf.dtype.itemsize * 8
    words = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{min(bits, 32)}"))
    return words.astype(jnp.uint32)
