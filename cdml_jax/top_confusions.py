"""Confusion of very many classes: each keeps the K classes that it is called most often.

A (C, C) matrix of 100,000 classes is 40 GB. Here each class keeps K counters of wrong answers by the rule of
Misra and Gries: counters of new answers are added, the largest K stay, and the value of the (K+1)-th is taken
off all of them. What that lets go of a class is known exactly, `errors − Σ values`. Every unit by which one
counter falls short takes a unit from K others or more, so

    values[i, j] ≤ counts[i, j] ≤ values[i, j] + (errors[i] − Σ_k values[i, k]) / (K + 1)

A wrong answer is undercounted by at most a (K + 1)-th of its class's errors, and one that is larger is always
there. How many images a class has and how many of them are wrong is exact; only what they are called is not.
Summaries merge into one with the same bound.

Source: J. Misra and D. Gries, "Finding repeated elements", Sci. Comput. Program. 2 (1982); P. K. Agarwal,
G. Cormode, Z. Huang, J. Phillips, Z. Wei and K. Yi, "Mergeable summaries", PODS 2012.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Num


class TopConfusions(NamedTuple):
    """The wrong answers that each class gets most, int32 for images or float32 for probabilities.

    Attributes:
      indices: (C, K) int32, what images of the class are called, in no order; −1 where a counter is free.
      values: (C, K), how often; 0 where a counter is free.
      errors: (C,), how often the class is called anything else; exact.
      correct: (C,), how often it is called right; exact.
    """

    indices: Int[Array, "classes top"] | Any  # numpy on the host, here and below
    values: Num[Array, "classes top"] | Any
    errors: Num[Array, " classes"] | Any
    correct: Num[Array, " classes"] | Any


class TopPairWeights(NamedTuple):
    """Pair weights A (C, C) as few numbers: A[i, j] = rest[i] + excess[i, k] where indices[i, k] = j ≠ i.

    Attributes:
      indices: (C, K) int32; −1 where there is none.
      excess: (C, K) float32, what those pairs weigh more than the class's others; 0 where there is none.
      rest: (C,) float32, the weight of every other pair of the class; the diagonal is 0.
    """

    indices: Int[Array, "classes top"] | Any  # numpy on the host, here and below
    excess: Float[Array, "classes top"] | Any
    rest: Float[Array, " classes"] | Any


def init_top(num_classes: int, k: int, dtype: Any = jnp.int32) -> TopConfusions:
    """Counts of nothing for `num_classes` classes, of which each keeps its `k` most frequent wrong answers.

    Raises:
      ValueError: `k` is not from 1 to num_classes − 1.

    >>> init_top(5, 2).indices.shape
    (5, 2)
    """
    if not 1 <= k < num_classes:
        raise ValueError(f"k: {k} of {num_classes} classes must be from 1 to {num_classes - 1}")
    none = jnp.zeros(num_classes, dtype)
    return TopConfusions(
        jnp.full((num_classes, k), -1, jnp.int32), jnp.zeros((num_classes, k), dtype), none, none
    )


def add_predictions(
    top: TopConfusions,
    labels: Int[Array, " batch"],
    predictions: Int[Array, " batch"],
    kept: Bool[Array, " batch"],
) -> TopConfusions:
    """Counts with the predicted classes of a batch added; rows not `kept` may hold anything.

    >>> rows = jnp.array([0, 0, 1]), jnp.array([2, 2, 1])
    >>> top = add_predictions(init_top(3, 1), *rows, jnp.ones(3, bool))
    >>> top.indices.tolist(), top.values.tolist(), top.correct.tolist()
    ([[2], [-1], [-1]], [[2], [0], [0]], [0, 1, 0])
    """
    labels = jnp.where(kept, labels, 0)
    right = predictions == labels
    dtype = top.values.dtype
    wrong = (kept & ~right).astype(dtype)
    top = top._replace(
        errors=top.errors.at[labels].add(wrong),
        correct=top.correct.at[labels].add((kept & right).astype(dtype)),
    )
    return _add_answers(top, labels, predictions[:, None], wrong[:, None])


def add_probabilities(
    top: TopConfusions,
    labels: Int[Array, " batch"],
    probabilities: Float[Array, "batch classes"],
    kept: Bool[Array, " batch"],
    *,
    per_row: int | None = None,
) -> TopConfusions:
    """Counts with the probabilities of a batch added; rows not `kept` may hold anything.

    Of each row the `per_row` largest wrong answers enter (K if None), less the next one, so that a row is a
    summary by the same rule: the undercount stays below errors / (min(K, per_row) + 1).

    >>> top = add_probabilities(
    ...     init_top(3, 1, jnp.float32), jnp.array([1]), jnp.array([[0.625, 0.25, 0.125]]), jnp.array([True])
    ... )
    >>> top.indices[1].tolist(), top.values[1].tolist(), top.errors[1].tolist()
    ([0], [0.5], 0.75)
    """
    batch, num_classes = probabilities.shape
    number = min(per_row or top.values.shape[1], num_classes - 1)
    dtype = top.values.dtype
    labels = jnp.where(kept, labels, 0)
    # The label may be among the largest: one more is taken, one more still to know what comes next.
    found, classes = jax.lax.top_k(probabilities, min(number + 2, num_classes))
    found = jnp.where(kept[:, None] & (classes != labels[:, None]), found.astype(dtype), 0)
    found, order = jax.lax.top_k(found, min(number + 1, num_classes))
    classes = jnp.take_along_axis(classes, order, axis=1)
    following = found[:, number:] if found.shape[1] > number else jnp.zeros((batch, 1), dtype)
    wrong = _sum_of_others(probabilities, labels, dtype)
    right = jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(dtype)
    top = top._replace(
        errors=top.errors.at[labels].add(jnp.where(kept, wrong, 0)),
        correct=top.correct.at[labels].add(jnp.where(kept, right, 0)),
    )
    return _add_answers(top, labels, classes[:, :number], found[:, :number] - following)


def merge(first: TopConfusions, second: TopConfusions) -> TopConfusions:
    """Counts of two disjoint sets of images as those of both, with the same bound.

    >>> one = add_predictions(init_top(3, 1), jnp.array([0, 0]), jnp.array([2, 0]), jnp.ones(2, bool))
    >>> merge(one, one).values.tolist()
    [[2], [0], [0]]
    """
    indices = jnp.concatenate([first.indices, second.indices], axis=1)
    values = jnp.concatenate([first.values, second.values], axis=1)
    return TopConfusions(
        *_largest(indices, values, first.values.shape[1]),
        first.errors + second.errors,
        first.correct + second.correct,
    )


def merge_stacked(stacked: TopConfusions) -> TopConfusions:
    """Counts of the several devices on the first axis of every leaf, as those of all."""
    devices, num_classes, k = stacked.values.shape

    def beside(counters: jax.Array) -> jax.Array:
        return counters.swapaxes(0, 1).reshape(num_classes, devices * k)

    return TopConfusions(
        *_largest(beside(stacked.indices), beside(stacked.values), k),
        stacked.errors.sum(axis=0),
        stacked.correct.sum(axis=0),
    )


def reduce_top(top: TopConfusions, axis_name: str | tuple[str, ...]) -> TopConfusions:
    """Counts of all devices along `axis_name`, on each of them, for code under pmap or shard_map.

    Each device merges its share of the classes, so that none holds the counters of all devices at once.
    """
    devices = jax.lax.axis_size(axis_name)
    num_classes, k = top.values.shape
    share = -(-num_classes // devices)

    def mine(counters: jax.Array, empty: int) -> jax.Array:
        padded = jnp.pad(counters, ((0, share * devices - num_classes), (0, 0)), constant_values=empty)
        parts = jax.lax.all_to_all(padded.reshape(devices, share, k), axis_name, 0, 0)
        return parts.swapaxes(0, 1).reshape(share, devices * k)

    def whole(counters: jax.Array) -> jax.Array:
        # A sum with zeros elsewhere: its result is known to be equal on all devices, a gather's is not.
        place = jnp.arange(devices)[:, None, None] == jax.lax.axis_index(axis_name)
        spread = jnp.where(place, counters[None], 0).reshape(share * devices, k)
        return jax.lax.psum(spread, axis_name)[:num_classes]

    indices, values = _largest(mine(top.indices, -1), mine(top.values, 0), k)
    errors, correct = jax.lax.psum((top.errors, top.correct), axis_name)
    return TopConfusions(whole(indices + 1) - 1, whole(values), errors, correct)


def decayed(top: TopConfusions, decay: float | jax.Array) -> TopConfusions:
    """Counts times `decay`, float32: what is kept of them over an epoch."""
    values, errors, correct = (decay * jnp.asarray(a, jnp.float32) for a in top[1:])
    return TopConfusions(jnp.where(values > 0, top.indices, -1), values, errors, correct)


def top_pair_weights(
    top: TopConfusions, mean_error: jax.Array, smoothing: float | jax.Array
) -> TopPairWeights:
    """Pair weights of the counts; what a class's counters let go is spread evenly over the other classes."""
    num_classes = top.errors.shape[0]
    others = max(num_classes - 1, 1)
    values, errors = top.values.astype(jnp.float32), top.errors.astype(jnp.float32)
    let_go = (top.errors - top.values.sum(axis=1)).astype(jnp.float32)
    denominators = errors + top.correct.astype(jnp.float32) + smoothing
    seen = denominators > 0
    neighbour = mean_error / others
    safe = jnp.where(seen, denominators, 1)
    excess = values / safe[:, None]
    rest = (jnp.maximum(let_go, 0) / others + smoothing * neighbour) / safe
    rest = jnp.where(seen, rest, neighbour)
    total = excess.sum() + others * rest.sum()
    scale = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)
    uniform = jnp.float32(1 / (num_classes * others))
    return TopPairWeights(top.indices, excess * scale, jnp.where(total > 0, rest * scale, uniform))


def _add_answers(
    top: TopConfusions, labels: jax.Array, answers: jax.Array, amounts: jax.Array
) -> TopConfusions:
    """Counters with answers (batch, m) added by their amounts; 0 adds nothing, labels and answers may repeat.

    The counters of the classes in the batch and the answers are one list of at most B (K + m) entries,
    sorted by class and answer to add up equal ones, then by class and amount to keep the largest.
    """
    num_classes, k = top.values.shape
    touched, slots = _distinct(labels, num_classes)
    number = touched.shape[0]
    stored = jnp.minimum(touched, num_classes - 1)
    real = (touched < num_classes)[:, None]
    slot = jnp.concatenate(
        [
            jnp.broadcast_to(jnp.arange(number, dtype=jnp.int32)[:, None], (number, k)).ravel(),
            jnp.broadcast_to(slots[:, None], answers.shape).ravel(),
        ]
    )
    answer = jnp.concatenate([jnp.where(real, top.indices[stored], -1).ravel(), answers.ravel()])
    amount = jnp.concatenate([jnp.where(real, top.values[stored], 0).ravel(), amounts.ravel()])
    slot, answer, amount = jax.lax.sort((slot, answer.astype(jnp.int32), amount), num_keys=2)
    begins = _differs(slot) | _differs(answer)
    run = jnp.cumsum(begins, dtype=jnp.int32) - 1
    sums = jnp.zeros_like(amount).at[run].add(amount, indices_are_sorted=True)
    amount = jnp.where(begins, sums[run], 0)
    slot, smaller, answer = jax.lax.sort((slot, -amount, answer), num_keys=2)
    amount = -smaller
    place = jnp.arange(slot.size, dtype=jnp.int32)
    rank = place - jax.lax.cummax(jnp.where(_differs(slot), place, 0))
    following = (
        jnp.zeros(number, amount.dtype).at[jnp.where(rank == k, slot, number)].set(amount, mode="drop")
    )
    amount -= following[slot]
    kept = (rank < k) & (amount > 0)
    row, column = jnp.where(kept, slot, number), jnp.where(kept, rank, 0)
    indices = jnp.full((number, k), -1, jnp.int32).at[row, column].set(answer, mode="drop")
    values = jnp.zeros((number, k), amount.dtype).at[row, column].set(amount, mode="drop")
    return top._replace(
        indices=top.indices.at[touched].set(indices, mode="drop"),
        values=top.values.at[touched].set(values, mode="drop"),
    )


def _sum_of_others(probabilities: jax.Array, labels: jax.Array, dtype: Any) -> jax.Array:
    """Σ_{j ≠ y_b} p_bj, not 1 − p_y, which would lose the digits of a rare error.

    Some columns at a time: where XLA does not fuse the mask with the sum, a copy of all would be made.
    """
    num_classes = probabilities.shape[1]
    width = min(4096, num_classes)

    def part(number: int | jax.Array) -> jax.Array:
        begin = jnp.minimum(number * width, num_classes - width)
        block = jax.lax.dynamic_slice_in_dim(probabilities, begin, width, axis=1)
        column = begin + jax.lax.broadcasted_iota(jnp.int32, block.shape, 1)
        counted = (column != labels[:, None]) & (column >= number * width)
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


def _largest(indices: jax.Array, values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Of counters (C, N), equal answers added up, the k largest of each class less the next one."""
    indices, values = jax.lax.sort((indices, values), dimension=1, num_keys=1)
    begins = jnp.concatenate([jnp.ones_like(indices[:, :1], bool), indices[:, 1:] != indices[:, :-1]], axis=1)
    run = jnp.cumsum(begins, axis=1, dtype=jnp.int32) - 1
    row = jnp.arange(indices.shape[0], dtype=jnp.int32)[:, None]
    sums = jnp.zeros_like(values).at[row, run].add(values)
    answers = jnp.full_like(indices, -1).at[row, run].set(indices)
    found, order = jax.lax.top_k(jnp.where(answers >= 0, sums, 0), min(k + 1, values.shape[1]))
    found = jnp.pad(found, ((0, 0), (0, k + 1 - found.shape[1])))
    order = jnp.pad(order, ((0, 0), (0, k + 1 - order.shape[1])))
    kept = found[:, :k] - found[:, k:]
    answers = jnp.take_along_axis(answers, order[:, :k], axis=1)
    return jnp.where(kept > 0, answers, -1), kept


def _differs(values: jax.Array) -> jax.Array:
    """Whether each value differs from the one before it; the first does."""
    return jnp.concatenate([jnp.ones(1, bool), values[1:] != values[:-1]])
