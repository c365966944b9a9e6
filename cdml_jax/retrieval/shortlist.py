r"""Shortlists of neighbours by a product on device, and what is certain about their order.

The product ranks by :math:`p = q \cdot r - \tfrac12 \lVert r \rVert^2`, which orders the references of a
query as the distance does. Its rounding depends on lengths, not on distances: embeddings that are far from 0
and near each other lose all their digits. So the embeddings are first moved to a centre among the references
and scaled by a power of two, and each score comes with a bound of its error,

.. math:: |\text{score} - p| \le \kappa \lVert r \rVert (\lVert q \rVert + \tfrac12 \lVert r \rVert) + \tau,

whose first term two more columns of the product add to the score, for an upper bound. The lower bound is the
upper less twice the error. With both it is known, query by query, whether the shortlist holds all neighbours
that were asked for (as many have a lower bound above the last upper bound), and which of its neighbours are
in a sure order.

:math:`\kappa` is counted in units of the type's rounding: size + 2 of the product's sum, 2 of moving the
embeddings, 1 of the squares, 2 of the comparison, and some to spare; twice as many where sums may not round
to nearest. :math:`\tau` covers numbers below the smallest normal one, and the rounding of distances in
float64: what ties there must not be called sure.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.retrieval.checks import slices

if TYPE_CHECKING:
    from jax.typing import DTypeLike
    from jaxtyping import Array, Bool, Float, Int

_STEP = 1 << 16  # references that are scored before the best are chosen among them
_WIDEST = 128  # group of neighbouring references; each step has a multiple of it
_NOTHING = -1e30  # score of padding: finite, since a TPU splits a float32 into parts
_LENGTH = 40  # lengths are scaled to at most 2 to this: scores stay far above `_NOTHING`
_SAMPLE = 128  # references among which the centre is found
_LONGER = 1 + 2.0**-20  # rounds lengths up


class Frame(NamedTuple):
    """What embeddings are before they are multiplied: (x − centre) · 2 ** power."""

    centre: Float[np.ndarray, " size"]
    power: int

    @classmethod
    def of(
        cls, queries: Float[np.ndarray, "queries size"], references: Float[np.ndarray, "references size"]
    ) -> Self:
        """The median of some references, coordinate by coordinate: a few that are far off do not move it."""
        sample = references[:: max(1, len(references) // _SAMPLE)].astype(np.float64)
        size = references.shape[1]
        centre = np.median(sample, axis=0) if sample.size else np.zeros(size)
        numbers = (float(f(x)) for x in (queries, references) if x.size for f in (np.max, np.min))
        longest = 2 * math.sqrt(size) * max(map(abs, numbers), default=0.0)
        return cls(centre, _LENGTH - math.frexp(longest)[1] if longest else 0)

    def move(
        self, rows: Float[np.ndarray, "rows size"], into: Float[np.ndarray, "padded columns"]
    ) -> Float[np.ndarray, " rows"]:
        """Write moved rows into the first columns of an array; return their squared lengths in float64."""
        squares = np.empty(len(rows))
        for part in slices(*rows.shape):
            moved = np.ldexp(rows[part].astype(np.float64) - self.centre, self.power)
            into[part, : rows.shape[1]] = moved
            squares[part] = np.einsum("nd,nd->n", moved, moved)
        return squares


class Bound(NamedTuple):
    """Bound of the error of scores: kappa, and tau by the query's squared length."""

    kappa: float
    smallest: float
    of_square: float

    @classmethod
    def of(cls, size: int, dtype: DTypeLike, *, nearest: bool = True) -> Self:
        """Of embeddings of this size, multiplied in this type, by sums that round to nearest or do not."""
        columns = size + 16
        # Squares come from sums in float64, whose rounding counts where the product is in float64 as well.
        twice = not nearest or dtype == np.float64
        error = columns * float(np.finfo(dtype).eps) * (1 if twice else 0.5)
        return cls(error / (1 - error), columns * 2.0**-84, columns * 2.0**-52)

    def tau(self, squares: Float[np.ndarray, " queries"]) -> Float[np.ndarray, " queries"]:
        """The part that is the same for all references of a query."""
        return self.smallest + self.of_square * squares


def table(
    rows: Float[np.ndarray, "references size"], frame: Frame, dtype: DTypeLike, bound: Bound
) -> Float[np.ndarray, "steps wide columns"]:
    """References for the product: moved rows, then −½‖r‖² (1 − kappa), then ‖r‖."""
    number, size = rows.shape
    steps = max(1, -(-number // _STEP))
    wide = _WIDEST * -(-number // (steps * _WIDEST)) or _WIDEST
    filled = np.zeros((steps * wide, size + 2), dtype)
    squares = frame.move(rows, filled)
    filled[:number, -2] = -0.5 * (1 - bound.kappa) * squares
    filled[:number, -1] = np.sqrt(squares) * _LONGER
    filled[number:, -2] = _NOTHING
    return filled.reshape(steps, wide, size + 2)


def asked(
    rows: Float[np.ndarray, "queries size"], block: int, frame: Frame, dtype: DTypeLike, bound: Bound
) -> tuple[Float[np.ndarray, "block columns"], Float[np.ndarray, "block 2"]]:
    """A block of queries for the product (moved rows, 1, kappa ‖q‖), and ‖q‖ and tau of each."""
    size = rows.shape[1]
    filled, of_rows = np.zeros((block, size + 2), dtype), np.zeros((block, 2), dtype)
    squares = frame.move(rows, filled)
    of_rows[: len(rows), 0] = np.sqrt(squares) * _LONGER
    of_rows[: len(rows), 1] = bound.tau(squares)
    filled[:, -2] = 1
    filled[:, -1] = bound.kappa * of_rows[:, 0]
    return filled, of_rows


def group_size(number: int, k: int) -> int:
    """Wide enough that few groups are left, narrow enough that the k best hold few references."""
    return min(_WIDEST, 1 << max(0, round(math.log2(max(1, number / k)) / 2)))


@functools.partial(jax.jit, static_argnames=("number", "wanted", "whole", "group", "kappa"))
def shortlist(
    queries: Float[Array, "block columns"],
    of_queries: Float[Array, "block 2"],
    references: Float[Array, "steps wide columns"],
    *,
    number: int,
    wanted: int,
    whole: bool,
    group: int,
    kappa: float,
) -> tuple[Int[Array, "block number"], Bool[Array, "block number"], Bool[Array, " block"]]:
    """The best references of each query by their upper bounds, and what is sure about them.

    The best of a row lie in the groups of neighbouring columns whose best are best: only as many groups as
    `number` are sorted. All is ordered by (upper bound, index).

    Args:
      queries: from `asked`.
      of_queries: from `asked`.
      references: from `table`.
      number: length of the shortlist.
      wanted: how many neighbours it must hold.
      whole: whether the shortlist is as long as the references are many.
      group: from `group_size`.
      kappa: of the bound that the table was made with.

    Returns:
      Indices, −1 where there are no more; whether all up to a place are nearer than all behind it; whether
      the shortlist holds the `wanted` nearest.
    """
    block = queries.shape[0]
    steps, wide, columns = references.shape

    def score(index, rows):
        # (block, wide) upper bounds, then the best of each group: (block, wide // group).
        uppers = jnp.matmul(queries, rows.T, precision="highest").reshape(block, wide // group, group)
        tops = uppers.max(axis=-1)
        _, groups = jax.lax.top_k(tops, min(number, tops.shape[1]))
        groups = jnp.sort(groups, axis=1)
        # (block, groups, group): the columns of these groups alone, in the order of their indices.
        chosen = jnp.take_along_axis(uppers, groups[..., None], axis=1)
        places = (groups[..., None] * group + jnp.arange(group)).astype(jnp.int32) + index * wide
        return chosen.reshape(block, -1), places.reshape(block, -1)

    def best(values, indices):
        values, kept = jax.lax.top_k(values, number)  # of equal ones the first
        return values, jnp.take_along_axis(indices, kept, axis=1)

    def search(before, step):
        # What came before has smaller indices, and stands first.
        both = (jnp.concatenate(pair, axis=1) for pair in zip(before, score(*step)))
        return best(*both), None

    if steps == 1:
        uppers, indices = best(*score(0, references[0]))
    else:
        nothing = jnp.full((block, number), -jnp.inf, queries.dtype), jnp.full((block, number), -1, jnp.int32)
        every = jnp.arange(steps, dtype=jnp.int32), references
        (uppers, indices), _ = jax.lax.scan(search, nothing, every)
    # Slices of what `top_k` gives would hide it from XLA, which would sort whole rows instead.
    uppers, indices = jax.lax.optimization_barrier((uppers, indices))
    found = uppers > _NOTHING / 2
    indices = jnp.where(found, indices, -1)
    lengths = references.reshape(-1, columns)[:, -1][indices]
    errors = kappa * lengths * (of_queries[:, :1] + lengths / 2) * _LONGER + of_queries[:, 1:]
    lowers = jnp.where(found, uppers - 2 * errors, uppers)
    sure = ((lowers > uppers[:, -1:]).sum(axis=1) >= wanted) | whole
    # Nearer than all behind: the lowest bound so far is above the next upper bound.
    behind = jnp.concatenate([uppers[:, 1:], jnp.full((block, 1), -jnp.inf, uppers.dtype)], axis=1)
    return indices, jax.lax.cummin(lowers, axis=1) > behind, sure
