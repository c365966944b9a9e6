"""The counters of a class's wrong answers: adding to them, and keeping the largest.

An answer is a class that images of another class were called. The rule is that of Misra and Gries, see
`cdml_jax/confusion/top.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Num


def add_answers(
    indices: Int[Array, "classes top"],
    values: Num[Array, "classes top"],
    labels: Int[Array, " batch"],
    answers: Int[Array, "batch answers"],
    amounts: Num[Array, "batch answers"],
) -> tuple[Int[Array, "classes top"], Num[Array, "classes top"]]:
    """Counters with answers added by their amounts; 0 adds nothing, labels and answers may repeat.

    The counters of the classes in the batch and the answers are one list of at most B (K + m) entries,
    sorted by class and answer to add up equal ones, then by class and amount to keep the largest.
    """
    num_classes, k = values.shape
    touched, slots = _distinct(labels, num_classes)
    number = touched.shape[0]
    stored = jnp.minimum(touched, num_classes - 1)
    real = (touched < num_classes)[:, None]
    # The list: counters of the classes touched, (number, k), then the new answers, (batch, m). A slot is the
    # place of a class among those touched.
    slot = jnp.concatenate(
        [
            jnp.broadcast_to(jnp.arange(number, dtype=jnp.int32)[:, None], (number, k)).ravel(),
            jnp.broadcast_to(slots[:, None], answers.shape).ravel(),
        ]
    )
    answer = jnp.concatenate([jnp.where(real, indices[stored], -1).ravel(), answers.ravel()])
    amount = jnp.concatenate([jnp.where(real, values[stored], 0).ravel(), amounts.ravel()])
    # Equal answers of a class stand together: the first of them gets their sum, the others 0.
    slot, answer, amount = jax.lax.sort((slot, answer.astype(jnp.int32), amount), num_keys=2)
    begins = _differs(slot) | _differs(answer)
    run = jnp.cumsum(begins, dtype=jnp.int32) - 1
    sums = jnp.zeros_like(amount).at[run].add(amount, indices_are_sorted=True)
    amount = jnp.where(begins, sums[run], 0)
    # Each class's answers by falling amount, and the rank of each in its class.
    slot, smaller, answer = jax.lax.sort((slot, -amount, answer), num_keys=2)
    amount = -smaller
    place = jnp.arange(slot.size, dtype=jnp.int32)
    rank = place - jax.lax.cummax(jnp.where(_differs(slot), place, 0))
    # The (K + 1)-th amount of each class, (number,), is taken off all; of the first K, what stays is kept.
    following = (
        jnp.zeros(number, amount.dtype).at[jnp.where(rank == k, slot, number)].set(amount, mode="drop")
    )
    amount -= following[slot]
    kept = (rank < k) & (amount > 0)
    row, column = jnp.where(kept, slot, number), jnp.where(kept, rank, 0)
    new_indices = jnp.full((number, k), -1, jnp.int32).at[row, column].set(answer, mode="drop")
    new_values = jnp.zeros((number, k), amount.dtype).at[row, column].set(amount, mode="drop")
    return (
        indices.at[touched].set(new_indices, mode="drop"),
        values.at[touched].set(new_values, mode="drop"),
    )


def largest(
    indices: Int[Array, "classes n"], values: Num[Array, "classes n"], k: int
) -> tuple[Int[Array, "classes top"], Num[Array, "classes top"]]:
    """Of counters, equal answers added up, the k largest of each class less the next one."""
    indices, values = jax.lax.sort((indices, values), dimension=1, num_keys=1)
    # Equal answers of a class stand together: run r of a row gets their sum, (C, N).
    begins = jnp.concatenate([jnp.ones_like(indices[:, :1], bool), indices[:, 1:] != indices[:, :-1]], axis=1)
    run = jnp.cumsum(begins, axis=1, dtype=jnp.int32) - 1
    row = jnp.arange(indices.shape[0], dtype=jnp.int32)[:, None]
    sums = jnp.zeros_like(values).at[row, run].add(values)
    answers = jnp.full_like(indices, -1).at[row, run].set(indices)
    # (C, k + 1), zeros where there are fewer: the last column is the next one.
    found, order = jax.lax.top_k(jnp.where(answers >= 0, sums, 0), min(k + 1, values.shape[1]))
    found = jnp.pad(found, ((0, 0), (0, k + 1 - found.shape[1])))
    order = jnp.pad(order, ((0, 0), (0, k + 1 - order.shape[1])))
    kept = found[:, :k] - found[:, k:]
    answers = jnp.take_along_axis(answers, order[:, :k], axis=1)
    return jnp.where(kept > 0, answers, -1), kept


def sum_of_others(
    probabilities: Float[Array, "batch classes"], labels: Int[Array, " batch"], dtype: Any
) -> Num[Array, " batch"]:
    """Σ_{j ≠ y_b} p_bj, not 1 − p_y, which would lose the digits of a rare error; NaN adds nothing.

    Some columns at a time: where XLA does not fuse the mask with the sum, a copy of all would be made.
    """
    num_classes = probabilities.shape[1]
    width = min(4096, num_classes)

    def part(number: int | jax.Array) -> jax.Array:
        begin = jnp.minimum(number * width, num_classes - width)
        block = jax.lax.dynamic_slice_in_dim(probabilities, begin, width, axis=1)
        column = begin + jax.lax.broadcasted_iota(jnp.int32, block.shape, 1)
        counted = (column != labels[:, None]) & (column >= number * width) & jnp.isfinite(block)
        return jnp.where(counted, block, 0).sum(axis=1, dtype=dtype)

    return jax.lax.fori_loop(1, -(-num_classes // width), lambda i, total: total + part(i), part(0))


def _distinct(labels: jax.Array, num_classes: int) -> tuple[jax.Array, jax.Array]:
    """The batch's classes ascending, each once, then `num_classes`; and the place of each row's class."""
    order = jnp.argsort(labels, stable=True)
    in_order = labels[order].astype(jnp.int32)
    slot_in_order = jnp.cumsum(_differs(in_order), dtype=jnp.int32) - 1
    slots = jnp.zeros_like(slot_in_order).at[order].set(slot_in_order)
    number = min(labels.shape[0], num_classes)
    return jnp.full(number, num_classes, jnp.int32).at[slot_in_order].set(in_order), slots


def _differs(values: jax.Array) -> jax.Array:
    """Whether each value differs from the one before it; the first does."""
    return jnp.concatenate([jnp.ones(1, bool), values[1:] != values[:-1]])
