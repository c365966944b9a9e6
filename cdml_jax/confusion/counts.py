"""Counts as a matrix, hard or soft, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.confusion.interface import Statistics
from cdml_jax.confusion.pairs import DensePairWeights
from cdml_jax.confusion.placing import compiled
from cdml_jax.confusion.rates import error_rates, weights_of_rates

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Num


class DenseConfusion(NamedTuple):
    """Counts (C, C); `Confusion` documents the methods that are not documented here.

    Attributes:
      matrix: numpy on the host, jax on devices. To count, it may be the first rows alone of a larger one.
    """

    matrix: Num[Array, "classes classes"] | Any

    @property
    def num_classes(self) -> int:
        return np.shape(self.matrix)[-1]

    @property
    def num_rows(self) -> int:
        """Classes whose images are counted: those of the rows that are here."""
        return np.shape(self.matrix)[0]

    @property
    def dtype(self) -> Any:
        """Dtype of the counts."""
        return self.matrix.dtype

    @property
    def arrays(self) -> Any:
        return self.matrix

    def add_probabilities(
        self,
        labels: Int[Array, " batch"],
        probabilities: Float[Array, "batch classes"],
        kept: Bool[Array, " batch"],
    ) -> DenseConfusion:
        """Counts with probabilities added to their label's row; rows not `kept` may hold anything.

        What is not finite adds nothing.
        """
        rows = jnp.where(kept, labels, 0)
        added = jnp.where(kept[:, None] & jnp.isfinite(probabilities), probabilities, 0).astype(self.dtype)
        return DenseConfusion(self.matrix.at[rows].add(added))

    def add_predictions(
        self, labels: Int[Array, " batch"], predictions: Int[Array, " batch"], kept: Bool[Array, " batch"]
    ) -> DenseConfusion:
        """Counts with predicted classes added; rows not `kept` may hold anything."""
        counts = self.matrix
        rows, columns = jnp.where(kept, labels, 0), jnp.where(kept, predictions, 0)
        if counts.size > jnp.iinfo(jnp.int32).max:
            kept = where_room(kept, counts[rows, columns])
            return DenseConfusion(counts.at[rows, columns].add(kept.astype(self.dtype)))
        # One index a cell: with two, XLA's scatter takes several times as long on a CPU.
        cells = rows * self.num_classes + columns
        flat = counts.ravel()
        kept = where_room(kept, flat[cells])
        flat = flat.at[jnp.where(kept, cells, counts.size)].add(1, mode="drop")
        return DenseConfusion(flat.reshape(counts.shape))

    def reduced(self, axis_name: str | tuple[str, ...]) -> DenseConfusion:
        """Sum of the counts of all devices along `axis_name`, under pmap or shard_map."""
        return DenseConfusion(jax.lax.psum(self.matrix, axis_name))

    def rates(self, smoothing: float | jax.Array = 1.0) -> jax.Array:
        return error_rates(*_errors_and_images(self._array()), smoothing)[0]

    def class_weights(
        self,
        *,
        mode: str = "rate",
        beta: float | jax.Array = 1.0,
        smoothing: float | jax.Array = 1.0,
        normalize: bool = True,
    ) -> jax.Array:
        return weights_of_rates(self.rates(smoothing), mode=mode, beta=beta, normalize=normalize)

    def pair_weights(
        self, *, smoothing: float | jax.Array = 1.0, symmetric: bool = False
    ) -> DensePairWeights:
        counts = self._array()
        num_classes = self.num_classes
        errors, images = _errors_and_images(counts)
        _, mean_error = error_rates(errors, images, smoothing)
        off_diagonal = ~jnp.eye(num_classes, dtype=bool)
        neighbour = mean_error / max(num_classes - 1, 1)
        denominators = (images + smoothing)[:, None]
        seen = ~(denominators <= 0)
        shares = (counts.astype(jnp.float32) + smoothing * neighbour) / jnp.where(seen, denominators, 1)
        shares = jnp.where(off_diagonal, jnp.where(seen, shares, neighbour), 0)
        if symmetric:
            shares = (shares + shares.T) / 2
        total = shares.sum()
        no_errors = total <= 0
        uniform = off_diagonal.astype(jnp.float32) / max(num_classes * (num_classes - 1), 1)
        return DensePairWeights(jnp.where(no_errors, uniform, shares / jnp.where(no_errors, 1, total)))

    def class_weights_on_host(
        self, *, mode: str, beta: float, smoothing: float, normalize: bool
    ) -> np.ndarray:
        compiled_weigh = compiled(weigh, None, ("mode", "normalize"))
        return np.asarray(compiled_weigh(self, beta, smoothing, mode=mode, normalize=normalize))

    def statistics(self, *, smoothing: float, symmetric: bool) -> Statistics:
        found = compiled(derive, None, ("symmetric",))(self, smoothing, symmetric=symmetric)
        return Statistics(*jax.tree.map(np.asarray, found))

    def plus(self, epoch: DenseConfusion, *, decay: float) -> DenseConfusion:
        return DenseConfusion((decay * self.matrix + epoch.matrix).astype(np.float32))

    def errors_and_correct(self) -> tuple[np.ndarray, np.ndarray]:
        counts = square(np.asarray(self.matrix))
        correct = np.diagonal(counts)
        return (counts.sum(axis=1) - correct).astype(np.float64), correct.astype(np.float64)

    def wrong_answers(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        row = np.asarray(self.matrix[index])
        others = np.delete(np.arange(row.size), index)
        total = float(row.sum())
        return others, row[others] / total if total > 0 else np.zeros(others.size)

    def most_confused(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = np.asarray(self.matrix)
        sizes = counts.sum(axis=1, keepdims=True)
        rates = np.divide(counts, sizes, out=np.zeros(counts.shape), where=sizes > 0)
        np.fill_diagonal(rates, 0.0)
        true, called = np.nonzero(rates)
        return first_pairs(true, called, rates[true, called], number)

    def on_host(self) -> DenseConfusion:
        return DenseConfusion(np.asarray(self.matrix))

    def _array(self) -> jax.Array:
        """The matrix on a device; integers that int32 cannot hold become float32, not other integers."""
        counts = self.matrix
        if isinstance(counts, np.ndarray) and counts.dtype.kind in "iu" and counts.dtype.itemsize > 4:
            counts = counts if jax.config.jax_enable_x64 else counts.astype(np.float32)  # type: ignore[attr-defined]
        counts = jnp.asarray(counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
            raise ValueError(f"counts: shape {counts.shape} is not square")
        return counts


def derive(confusion: Any, smoothing: jax.Array, symmetric: bool) -> tuple[jax.Array, Any]:
    """Rates and pair weights of counts of any form, to be compiled as one."""
    return confusion.rates(smoothing), confusion.pair_weights(smoothing=smoothing, symmetric=symmetric)


def weigh(confusion: Any, beta: jax.Array, smoothing: jax.Array, mode: str, normalize: bool) -> jax.Array:
    """Class weights of counts of any form, to be compiled."""
    return confusion.class_weights(mode=mode, beta=beta, smoothing=smoothing, normalize=normalize)


def counting_dtype(dtype: Any) -> Any:
    """The dtype, if it can count.

    Raises:
      TypeError: it holds less than float32 does, so that counts would stop or wrap around early.

    >>> counting_dtype(jnp.bfloat16)
    Traceback (most recent call last):
    TypeError: counts: bfloat16 cannot count beyond 256; use int32 for classes or float32 for probabilities
    """
    dtype = jnp.dtype(dtype)
    integer, floating = jnp.issubdtype(dtype, jnp.integer), jnp.issubdtype(dtype, jnp.floating)
    if (integer or floating) and dtype.itemsize >= 4:
        return dtype
    limit = "at all"
    if integer or floating:
        limit = f"beyond {jnp.iinfo(dtype).max if integer else 2 ** (jnp.finfo(dtype).nmant + 1)}"
    raise TypeError(
        f"counts: {dtype} cannot count {limit}; use int32 for classes or float32 for probabilities"
    )


def where_room(kept: jax.Array, counts: jax.Array) -> jax.Array:
    """Rows that are kept and whose integer count can take the whole batch: full counts do not wrap around."""
    if not jnp.issubdtype(counts.dtype, jnp.integer):
        return kept
    return kept & (counts <= jnp.iinfo(counts.dtype).max - kept.size)


def summing_dtype(counts: jax.Array) -> Any:
    """In which counts are summed up: integers of 32 bits in float32, since their sums may not fit."""
    narrow = jnp.issubdtype(counts.dtype, jnp.integer) and counts.dtype.itemsize <= 4
    return jnp.dtype(jnp.float32) if narrow else counts.dtype


def first_pairs(
    true: np.ndarray, called: np.ndarray, rates: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of highest rate, ties by index."""
    chosen = first_places(true, called, rates, number)
    return true[chosen], called[chosen], rates[chosen]


def first_places(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """Where the `number` largest values are, ties by row, then by column; there may be millions of values.

    >>> first_places(np.array([1, 0, 0]), np.array([0, 2, 1]), np.array([0.5, 0.5, 0.25]), 2).tolist()
    [1, 0]
    """
    falling, places = -values, np.arange(values.size)
    last = np.partition(falling, number - 1)[number - 1] if 0 < number < values.size else np.nan
    if not np.isnan(last):
        # Those above the last value that is wanted, and of those equal to it the first ones alone are sorted.
        equal = np.flatnonzero(falling == last)
        if equal.size > number:
            cells = rows[equal].astype(np.int64) * (int(columns.max()) + 1) + columns[equal]
            equal = equal[np.argpartition(cells, number - 1)[:number]]
        places = np.concatenate([np.flatnonzero(falling < last), equal])
    return places[np.lexsort([columns[places], rows[places], falling[places]])[:number]]


def square(counts: np.ndarray) -> np.ndarray:
    """Counts (C, C) as numpy.

    Raises:
      ValueError: another shape, or negative counts.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"counts must be square (C, C), not {counts.shape}")
    if counts.size and counts.min() < 0:
        raise ValueError("counts must not be negative")
    return counts


def _errors_and_images(counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Errors and images of each class, (C,) float32; errors are summed, not taken from 1 − P."""
    dtype = summing_dtype(counts)
    errors = jnp.where(jnp.eye(counts.shape[0], dtype=bool), 0, counts).sum(axis=1, dtype=dtype)
    return errors.astype(jnp.float32), counts.sum(axis=1, dtype=dtype).astype(jnp.float32)
