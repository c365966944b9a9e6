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
import numpy as np

from cdml_jax.confusion.counts import counting_dtype, derive, first_pairs, weigh, where_room
from cdml_jax.confusion.interface import Statistics
from cdml_jax.confusion.placing import compiled
from cdml_jax.confusion.rates import error_rates, weights_of_rates
from cdml_jax.confusion.top_counters import add_answers, largest, sum_of_others
from cdml_jax.confusion.top_merging import Counters, merge_counters
from cdml_jax.confusion.top_pairs import TopPairWeights

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Num


class TopConfusions(NamedTuple):
    """The wrong answers that each class gets most, int32 for images or float32 for probabilities.

    `Confusion` documents the methods that are not documented here.

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

    @property
    def num_classes(self) -> int:
        return self.errors.shape[-1]

    @property
    def num_rows(self) -> int:
        """Classes whose images are counted: all."""
        return self.num_classes

    @property
    def dtype(self) -> Any:
        """Dtype of the counts."""
        return self.values.dtype

    @property
    def matrix(self) -> None:
        return None

    @property
    def arrays(self) -> TopConfusions:
        return self

    def add_predictions(
        self, labels: Int[Array, " batch"], predictions: Int[Array, " batch"], kept: Bool[Array, " batch"]
    ) -> TopConfusions:
        """Counts with the predicted classes of a batch added; rows not `kept` may hold anything.

        >>> rows = jnp.array([0, 0, 1]), jnp.array([2, 2, 1])
        >>> top = init_top(3, 1).add_predictions(*rows, jnp.ones(3, bool))
        >>> top.indices.tolist(), top.values.tolist(), top.correct.tolist()
        ([[2], [-1], [-1]], [[2], [0], [0]], [0, 1, 0])
        """
        labels = jnp.where(kept, labels, 0)
        right = predictions == labels
        # No counter exceeds the errors: where these have room, the counters have.
        kept = where_room(kept, jnp.where(right, self.correct[labels], self.errors[labels]))
        wrong = (kept & ~right).astype(self.dtype)
        indices, values = add_answers(self.indices, self.values, labels, predictions[:, None], wrong[:, None])
        return TopConfusions(
            indices,
            values,
            self.errors.at[labels].add(wrong),
            self.correct.at[labels].add((kept & right).astype(self.dtype)),
        )

    def add_probabilities(
        self,
        labels: Int[Array, " batch"],
        probabilities: Float[Array, "batch classes"],
        kept: Bool[Array, " batch"],
        *,
        per_row: int | None = None,
    ) -> TopConfusions:
        """Counts with the probabilities of a batch added; rows not `kept` may hold anything.

        Of each row the `per_row` largest wrong answers enter (K if None), less the next one, so that a row is
        a summary by the same rule: the undercount stays below errors / (min(K, per_row) + 1).

        >>> top = init_top(3, 1, jnp.float32).add_probabilities(
        ...     jnp.array([1]), jnp.array([[0.625, 0.25, 0.125]]), jnp.array([True])
        ... )
        >>> top.indices[1].tolist(), top.values[1].tolist(), top.errors[1].tolist()
        ([0], [0.5], 0.75)
        """
        batch, num_classes = probabilities.shape
        number = min(per_row or self.values.shape[1], num_classes - 1)
        dtype = self.dtype
        labels = jnp.where(kept, labels, 0)
        # The label may be among the largest: one more is taken, one more still to know what comes next.
        found, classes = jax.lax.top_k(probabilities, min(number + 2, num_classes))
        counted = kept[:, None] & (classes != labels[:, None]) & jnp.isfinite(found)
        found = jnp.where(counted, found.astype(dtype), 0)
        found, order = jax.lax.top_k(found, min(number + 1, num_classes))
        classes = jnp.take_along_axis(classes, order, axis=1)
        following = found[:, number:] if found.shape[1] > number else jnp.zeros((batch, 1), dtype)
        wrong = sum_of_others(probabilities, labels, dtype)
        right = jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(dtype)
        indices, values = add_answers(
            self.indices, self.values, labels, classes[:, :number], found[:, :number] - following
        )
        return TopConfusions(
            indices,
            values,
            self.errors.at[labels].add(jnp.where(kept, wrong, 0)),
            self.correct.at[labels].add(jnp.where(kept & jnp.isfinite(right), right, 0)),
        )

    def reduced(self, axis_name: str | tuple[str, ...]) -> TopConfusions:
        """Counts of all devices along `axis_name`, on each of them, for code under pmap or shard_map.

        Each device merges its share of the classes, so that none holds the counters of all devices at once.
        """
        devices = jax.lax.axis_size(axis_name)
        num_classes, k = self.values.shape
        share = -(-num_classes // devices)

        def mine(counters: jax.Array, empty: int) -> jax.Array:
            # (C, k) to this device's (share, devices * k).
            padded = jnp.pad(counters, ((0, share * devices - num_classes), (0, 0)), constant_values=empty)
            parts = jax.lax.all_to_all(padded.reshape(devices, share, k), axis_name, 0, 0)
            return parts.swapaxes(0, 1).reshape(share, devices * k)

        def whole(counters: jax.Array) -> jax.Array:
            # A sum with zeros elsewhere: its result is known to be equal on all devices, a gather's is not.
            place = jnp.arange(devices, dtype=jnp.int32)[:, None, None] == jax.lax.axis_index(axis_name)
            spread = jnp.where(place, counters[None], 0).reshape(share * devices, k)
            return jax.lax.psum(spread, axis_name)[:num_classes]

        indices, values = largest(mine(self.indices, -1), mine(self.values, 0), k)
        errors, correct = jax.lax.psum((self.errors, self.correct), axis_name)
        return TopConfusions(whole(indices + 1) - 1, whole(values), errors, correct)

    def rates(self, smoothing: float | jax.Array = 1.0) -> jax.Array:
        return error_rates(*self._errors_and_images(), smoothing)[0]

    def class_weights(
        self,
        *,
        mode: str = "rate",
        beta: float | jax.Array = 1.0,
        smoothing: float | jax.Array = 1.0,
        normalize: bool = True,
    ) -> jax.Array:
        return weights_of_rates(self.rates(smoothing), mode=mode, beta=beta, normalize=normalize)

    def pair_weights(self, *, smoothing: float | jax.Array = 1.0, symmetric: bool = False) -> TopPairWeights:
        """As `Confusion.pair_weights`: what a class's counters let go is spread evenly over its others.

        Raises:
          ValueError: `symmetric`: a class may be the wrong answer of all others.
        """
        if symmetric:
            raise ValueError("symmetric: of the K wrong answers of each class no transpose is kept")
        num_classes, others = self.num_classes, max(self.num_classes - 1, 1)
        values = jnp.asarray(self.values, jnp.float32)
        let_go = (self.errors - self.values.sum(axis=1, dtype=self.dtype)).astype(jnp.float32)
        errors, images = self._errors_and_images()
        _, mean_error = error_rates(errors, images, smoothing)
        denominators = images + smoothing
        seen = ~(denominators <= 0)
        neighbour = mean_error / others
        safe = jnp.where(seen, denominators, 1)
        # A[i, j] before it is scaled to sum 1: (C, K) of listed answers on top of (C,) for each other class.
        excess = values / safe[:, None]
        rest = (jnp.maximum(let_go, 0) / others + smoothing * neighbour) / safe
        rest = jnp.where(seen, rest, neighbour)
        total = excess.sum() + others * rest.sum()
        no_errors = total <= 0
        scale = jnp.where(no_errors, 0, 1 / jnp.where(no_errors, 1, total))
        uniform = jnp.float32(1 / (num_classes * others))
        return TopPairWeights(self.indices, excess * scale, jnp.where(no_errors, uniform, rest * scale))

    def class_weights_on_host(
        self, *, mode: str, beta: float, smoothing: float, normalize: bool
    ) -> np.ndarray:
        compiled_weigh = compiled(weigh, None, ("mode", "normalize"))
        return np.asarray(compiled_weigh(self, beta, smoothing, mode=mode, normalize=normalize))

    def statistics(self, *, smoothing: float, symmetric: bool) -> Statistics:
        found = compiled(derive, None, ("symmetric",))(self, smoothing, symmetric=symmetric)
        return Statistics(*jax.tree.map(np.asarray, found))

    def plus(self, epoch: TopConfusions, *, decay: float) -> TopConfusions:
        """As `Confusion.plus`, with the same bound: two summaries merge into one.

        >>> one = init_top(3, 1).add_predictions(jnp.array([0, 0]), jnp.array([2, 0]), jnp.ones(2, bool))
        >>> one.plus(one, decay=0.5).values.tolist()
        [[1.5], [0.0], [0.0]]
        """
        parts = [
            Counters(np.asarray(top.indices), np.float32(factor) * np.asarray(top.values, np.float32))
            for top, factor in ((self, decay), (epoch, 1))
        ]
        merged = merge_counters(parts, self.values.shape[1])
        return TopConfusions(*merged, *map(np.asarray, _sums_decayed(self[2:], decay, epoch[2:])))

    def errors_and_correct(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.errors, np.float64), np.asarray(self.correct, np.float64)

    def wrong_answers(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        used = self.indices[index] >= 0
        others, numbers = np.asarray(self.indices[index][used]), np.asarray(self.values[index][used])
        total = float(self.errors[index] + self.correct[index])
        return others, numbers / total if total > 0 else np.zeros(others.size)

    def most_confused(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Confusion.most_confused`, from counters that may fall short."""
        indices, values, errors, correct = map(np.asarray, self)
        true, counter = np.nonzero(values)
        rates = values[true, counter] / (errors + correct)[true]
        return first_pairs(true, indices[true, counter], rates, number)

    def on_host(self) -> TopConfusions:
        return jax.tree.map(np.asarray, self)

    def _errors_and_images(self) -> tuple[jax.Array, jax.Array]:
        """Errors and images of each class, (C,) float32: the sum of two int32 may not fit."""
        errors, correct = (jnp.asarray(a, jnp.float32) for a in (self.errors, self.correct))
        return errors, errors + correct


def init_top(num_classes: int, k: int, dtype: Any = jnp.int32) -> TopConfusions:
    """Empty counts of `num_classes` classes, of which each keeps its `k` most frequent wrong answers.

    Raises:
      ValueError: `k` is not from 1 to num_classes − 1.
      TypeError: as `init`.

    >>> init_top(5, 2).indices.shape
    (5, 2)
    """
    if not 1 <= k < num_classes:
        raise ValueError(f"k: {k} of {num_classes} classes must be from 1 to {num_classes - 1}")
    none = jnp.zeros(num_classes, counting_dtype(dtype))
    return TopConfusions(
        jnp.full((num_classes, k), -1, jnp.int32), jnp.zeros((num_classes, k), dtype), none, none
    )


def merge_stacked(stacked: TopConfusions) -> TopConfusions:
    """Counts of the several devices on the first axis of every leaf, as those of all."""
    devices, num_classes, k = stacked.values.shape

    def beside(counters: jax.Array) -> jax.Array:
        return counters.swapaxes(0, 1).reshape(num_classes, devices * k)

    return TopConfusions(
        *largest(beside(stacked.indices), beside(stacked.values), k),
        stacked.errors.sum(axis=0),
        stacked.correct.sum(axis=0),
    )


@jax.jit
def _sums_decayed(kept: tuple[Any, ...], decay: jax.Array, epoch: tuple[Any, ...]) -> list[jax.Array]:
    return [
        decay * jnp.asarray(before, jnp.float32) + jnp.asarray(added, jnp.float32)
        for before, added in zip(kept, epoch, strict=True)
    ]
