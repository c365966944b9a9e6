"""How triplets are found in a batch: drawn by pair weights beforehand, mined by distance, or both.

`MINERS` is what the compiled step switches between and what a method's `miner` names; a miner's place in it
is the index that the step takes, so adding one is adding an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from cdml_jax.sampling.triplets import Triplets

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Integer


def batch_hard_triplets(
    embeddings: Float[Array, "batch size"],
    labels: Integer[Array, " batch"],
    *,
    num_triplets: int,
    where: Bool[Array, " batch"] | None = None,
    first: int | Integer[Array, ""] = 0,
) -> Triplets:
    r"""For each anchor the farthest row of its class and the nearest row of another, over and over.

    .. math:: p = \arg\max_{y_p = y_a, p \ne a} \|g_a - g_p\|, \quad n = \arg\min_{y_n \ne y_a} \|g_a - g_n\|

    Args:
      embeddings: one row an image; no gradient flows through the choice.
      labels: class of each row.
      num_triplets: T; anchors go round, so with a multiple of the batch each counts alike.
      where: rows that count.
      first: number of the first of these triplets, where several devices each take a share of them.

    Returns:
      `Triplets`; one is valid whose anchor counts and has both a positive and a negative.

    >>> rows = jnp.array([[0.0], [1.0], [3.0], [3.5]])
    >>> batch_hard_triplets(rows, jnp.array([0, 0, 0, 1]), num_triplets=4).positive.tolist()
    [2, 2, 0, 0]

    Source: Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification" (2017).
    """
    anchor = (first + jnp.arange(num_triplets, dtype=jnp.int32)) % labels.shape[0]
    (distances, positives, negatives), place = _compared(embeddings, labels, where, anchor)
    positive = jnp.argmax(jnp.where(positives, distances, -jnp.inf), axis=1)[place]
    negative = jnp.argmin(jnp.where(negatives, distances, jnp.inf), axis=1)[place]
    return _valid_alone(anchor, positive, negative, _served(positives, negatives)[place])


def semi_hard_triplets(
    embeddings: Float[Array, "batch size"],
    labels: Integer[Array, " batch"],
    *,
    num_triplets: int,
    where: Bool[Array, " batch"] | None = None,
    first: int | Integer[Array, ""] = 0,
) -> Triplets:
    r"""For each anchor and positive the nearest negative beyond the positive, or the farthest if none is.

    .. math:: n = \arg\min_{y_n \ne y_a,\ \|g_a - g_n\| > \|g_a - g_p\|} \|g_a - g_n\|

    Args:
      embeddings: one row an image; no gradient flows through the choice.
      labels: class of each row.
      num_triplets: T; anchors go round, and each time an anchor comes back it takes its next positive.
      where: rows that count.
      first: number of the first of these triplets, where several devices each take a share of them.

    Returns:
      `Triplets`; one is valid whose anchor counts and has both a positive and a negative.

    >>> rows = jnp.array([[0.0], [1.0], [0.5], [3.5]])
    >>> semi_hard_triplets(rows, jnp.array([0, 0, 1, 1]), num_triplets=4).negative.tolist()
    [3, 3, 0, 0]

    Source: Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, section 3.2.
    """
    turn, anchor = jnp.divmod(first + jnp.arange(num_triplets, dtype=jnp.int32), labels.shape[0])
    (distances, positives, negatives), place = _compared(embeddings, labels, where, anchor)
    valid = _served(positives, negatives)[place]
    rank = jnp.cumsum(positives, axis=1)[place]
    distances, positives, negatives = distances[place], positives[place], negatives[place]
    wanted = turn % jnp.maximum(rank[:, -1], 1) + 1
    positive = jnp.argmax(positives & (rank == wanted[:, None]), axis=1)
    to_positive = jnp.take_along_axis(distances, positive[:, None], axis=1)
    beyond = negatives & (distances > to_positive)
    nearest = jnp.argmin(jnp.where(beyond, distances, jnp.inf), axis=1)
    farthest = jnp.argmax(jnp.where(negatives, distances, -jnp.inf), axis=1)
    negative = jnp.where(beyond.any(axis=1), nearest, farthest)
    return _valid_alone(anchor, positive, negative, valid)


def hardest_of_drawn_triplets(
    embeddings: Float[Array, "batch size"],
    labels: Integer[Array, " batch"],
    triplets: Triplets,
    *,
    where: Bool[Array, " batch"] | None = None,
) -> Triplets:
    r"""The anchors and pairs of classes that were drawn, with the hardest images of these classes.

    .. math:: p = \arg\max_{y_p = i, p \ne a} \|g_a - g_p\|, \quad n = \arg\min_{y_n = j} \|g_a - g_n\|

    where a triplet of the pair (i, j) was drawn with the anchor a: which classes meet is decided by the pair
    weights, which images of them by distance.

    Args:
      embeddings: one row an image; no gradient flows through the choice.
      labels: class of each row.
      triplets: as `sample_triplets` drew them; the classes are those of the anchors and of the negatives.
      where: rows that count.

    Returns:
      `Triplets` with the same anchors; those are valid that were.

    >>> rows = jnp.array([[0.0], [1.0], [3.0], [3.5], [2.0]])
    >>> one = (jnp.array([row]) for row in (0, 1, 3))
    >>> drawn = Triplets(*one, valid=jnp.array([True]))
    >>> hardest = hardest_of_drawn_triplets(rows, jnp.array([0, 0, 0, 1, 1]), drawn)
    >>> hardest.positive.item(), hardest.negative.item()
    (2, 4)
    """
    anchor, of_negative = triplets.anchor, labels[triplets.negative][:, None]
    compared, place = _compared(embeddings, labels, where, anchor)
    distances, positives, negatives = (a[place] for a in compared)
    positive = jnp.argmax(jnp.where(positives, distances, -jnp.inf), axis=1)
    wanted = negatives & (labels[None, :] == of_negative)
    negative = jnp.argmin(jnp.where(wanted, distances, jnp.inf), axis=1)
    return _valid_alone(anchor, positive, negative, triplets.valid)


def _compared(
    embeddings: jax.Array, labels: jax.Array, where: jax.Array | None, anchor: jax.Array
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array | slice]:
    """Squared distances of some rows to all, positives and negatives of each; which of these each anchor is.

    The rows are the anchors or, if it is smaller, the whole batch.
    """
    rows, place = (anchor, slice(None)) if anchor.size < labels.size else (slice(None), anchor)
    embeddings = jax.lax.stop_gradient(jnp.asarray(embeddings).astype(jnp.float32))
    real = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where, bool)
    embeddings = jnp.where(real[:, None], embeddings, 0)
    squares = jnp.sum(embeddings**2, axis=1)
    products = jnp.matmul(embeddings[rows], embeddings.T, precision=jax.lax.Precision.HIGHEST)
    distances = squares[rows, None] + squares[None, :] - 2 * products
    same = labels[rows, None] == labels[None, :]
    both = real[rows, None] & real[None, :]
    places = jnp.arange(labels.size, dtype=jnp.int32)
    return (distances, both & same & (places[rows, None] != places), both & ~same), place


def _served(positives: jax.Array, negatives: jax.Array) -> jax.Array:
    """Which rows have both a positive and a negative."""
    return positives.any(axis=1) & negatives.any(axis=1)


def _valid_alone(anchor: jax.Array, positive: jax.Array, negative: jax.Array, valid: jax.Array) -> Triplets:
    """Triplets whose positives and negatives are row 0 where they are not valid."""
    positive, negative = (jnp.where(valid, row, 0).astype(jnp.int32) for row in (positive, negative))
    return Triplets(anchor, positive, negative, valid)


def mineable(
    labels: Integer[Array, " batch"], *, num_triplets: int, where: Bool[Array, " batch"] | None = None
) -> Bool[Array, " triplets"]:
    """Which triplets are found where anchors go round: those that count and have a positive and a negative.

    It is known from labels alone, before the network has run, and the same for every miner that takes the
    anchors in turn.

    Args:
      labels: class of each row.
      num_triplets: T.
      where: rows that count.

    >>> mineable(jnp.array([0, 0, 1]), num_triplets=4).tolist()
    [True, True, False, True]
    """
    return batch_hard_triplets(
        jnp.zeros((labels.size, 1)), labels, num_triplets=num_triplets, where=where
    ).valid


class Miner(NamedTuple):
    """One way to find the triplets of a batch.

    Args:
      mine: called as mine(embeddings, labels, num_triplets=T, where=..., first=...), or, if `drawn`, as
        mine(embeddings, labels, triplets, where=...); None takes the triplets that were drawn.
      drawn: whether it starts from the drawn triplets. Otherwise its anchors go round, and those triplets are
        valid that are `mineable`.
    """

    mine: Callable[..., Triplets] | None = None
    drawn: bool = False

    def __call__(
        self,
        embeddings: Float[Array, "batch size"],
        labels: Integer[Array, " batch"],
        triplets: Triplets,
        *,
        where: Bool[Array, " batch"],
        first: int | Integer[Array, ""] = 0,
    ) -> Triplets:
        """Triplets of the batch, as many as were drawn.

        Args:
          embeddings, labels, where: of its rows.
          triplets: those that were drawn, or a device's share of them.
          first: number of the first of them among all of the batch.
        """
        if self.mine is None:
            return triplets
        if self.drawn:
            return self.mine(embeddings, labels, triplets, where=where)
        return self.mine(embeddings, labels, num_triplets=triplets.valid.size, where=where, first=first)


MINERS = {
    "drawn": Miner(drawn=True),
    "batch_hard": Miner(batch_hard_triplets),
    "semi_hard": Miner(semi_hard_triplets),
    "drawn_hard": Miner(hardest_of_drawn_triplets, drawn=True),
}
