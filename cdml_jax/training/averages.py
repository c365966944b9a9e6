"""Averages on device: of metrics, as (sum, count) pairs that merge, and the decay of moving ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float


class Average(NamedTuple):
    """Sum of values and their number; any shape, elementwise."""

    total: jax.Array
    number: jax.Array


def average(total: ArrayLike, number: ArrayLike) -> Average:
    """State of one batch: the sum of its values, float32 or wider, and how many they are.

    >>> average(jnp.float32(6.0), jnp.int32(3)).total.dtype
    dtype('float32')
    """
    total = jnp.asarray(total)
    return Average(
        total.astype(jnp.promote_types(total.dtype, jnp.float32)), jnp.asarray(number, jnp.float32)
    )


def merge(first: dict[str, Average], second: dict[str, Average]) -> dict[str, Average]:
    """States of two disjoint sets of rows, as the state of both.

    >>> a, b = {"loss": average(6.0, 3)}, {"loss": average(2.0, 1)}
    >>> float(compute(merge(a, b))["loss"])
    2.0
    """
    return jax.tree.map(jnp.add, first, second)


def compute(states: dict[str, Average]) -> dict[str, Float[Array, "*shape"]]:
    """Means; 0 where nothing was counted.

    >>> float(compute({"loss": average(0.0, 0)})["loss"])
    0.0
    """
    return {name: state.total / jnp.maximum(state.number, 1) for name, state in states.items()}


def ema_decay(step: jax.Array | int, decay: float) -> jax.Array:
    """Decay of the moving averages at a step, min(d, (1 + t) / (10 + t)).

    So the averages of a short run do not consist of its first parameters.

    Args:
      step: t, steps done before.
      decay: d.

    >>> [round(float(ema_decay(t, 0.999)), 3) for t in (0, 90, 100_000)]
    [0.1, 0.91, 0.999]

    Source: `tf.train.ExponentialMovingAverage` with `num_updates`.
    """
    step = jnp.asarray(step).astype(jnp.float32)
    return jnp.minimum(decay, (1 + step) / (10 + step))
