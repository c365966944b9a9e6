"""Terms that other systems add to the softmax, around the pure functions of `cdml_jax.regularizers`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from cdml_jax.regularizers import halves, probability_distances
from cdml_jax.sampling.triplets import Pairs, sample_pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class PairwiseConfusion:
    """Euclidean confusion of row i and row i + B/2 of each microbatch.

    Attributes:
      factor: λ / C. The paper's README gives 0.1 to 0.2 for a sum divided by the batch size; the mean over
        pairs that is used here halves it.
      name: key of its weight, and of its value in the log.

    Source: Dubey et al., ECCV 2018.
    """

    factor: float = 0.05
    name: str = "pairwise_confusion"

    def weight(self, num_classes: int) -> float:
        """λ = factor · C."""
        return self.factor * num_classes

    def prepare(self, labels: Int[Array, "parts rows"], draw: Callable[..., Any]) -> Pairs:
        """The halves of each microbatch."""
        return Pairs(*jax.vmap(lambda part: halves(part, where=part >= 0))(labels))

    def count(self, prepared: Pairs) -> Int[Array, ""]:
        """Pairs of two real rows of different classes."""
        return prepared.valid.sum(dtype=jnp.int32)

    def __call__(
        self,
        logits: Float[Array, "rows classes"],
        embeddings: Float[Array, "rows size"],
        labels: Int[Array, " rows"],
        prepared: Pairs,
    ) -> Float[Array, ""]:
        """Σ v ‖p − p'‖²."""
        return probability_distances(logits, *prepared).sum()


@dataclasses.dataclass(frozen=True)
class ConfusedPairs(PairwiseConfusion):
    """Euclidean confusion of rows whose classes are drawn by how often they are confused.

    It acts on the pairs that CDML's triplets push apart, in the space of probabilities.

    Source: the term of Dubey et al., ECCV 2018, with the pairs of Zhao and Peng, MMM 2018.
    """

    name: str = "confused_pairs"

    def prepare(self, labels: Int[Array, "parts rows"], draw: Callable[..., Any]) -> Pairs:
        """As many pairs as there are halves, drawn by the pair weights."""
        return draw(functools.partial(sample_pairs, num_pairs=labels.shape[1] // 2))


@dataclasses.dataclass(frozen=True)
class OfRows:
    """Base of the terms that are a mean over the real rows.

    Attributes:
      factor: the weight, for any number of classes.
    """

    factor: float = 1.0

    def weight(self, num_classes: int) -> float:
        """The same for any number of classes."""
        return self.factor

    def prepare(self, labels: Int[Array, "parts rows"], draw: Callable[..., Any]) -> Array:
        """Which rows count."""
        return labels >= 0

    def count(self, prepared: Array) -> Int[Array, ""]:
        """Real rows."""
        return prepared.sum(dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class CrossEntropy(OfRows):
    """Cross-entropy of scores that a part gives; of several for a row, such as its crops', the mean.

    Attributes:
      factor: its weight.
      name: key of its weight, and of its value in the log.
      needs: first the scores, (rows, *more, classes).
    """

    name: str = ""
    needs: tuple[str, ...] = ()

    def own(self, labels: Int[Array, " rows"], real: Bool[Array, " rows"], needed: Any) -> Array:
        """The class among the scores of each row: by default its label; of rows that are not real, any."""
        return labels

    def __call__(
        self,
        logits: Float[Array, "rows classes"],
        embeddings: Float[Array, "rows size"],
        labels: Int[Array, " rows"],
        prepared: Array,
        **needed: Array,
    ) -> Float[Array, ""]:
        """Σ over the rows of −log softmax of the own class, the mean over what a row has several of."""
        own = self.own(labels, prepared, needed)
        values = cross_entropies(needed[self.needs[0]], own, prepared)
        more = tuple(range(1, values.ndim))
        return (values.mean(axis=more) if more else values).sum()


def cross_entropies(
    scores: Float[Array, "rows *more classes"], classes: Int[Array, " rows"], real: Bool[Array, " rows"]
) -> Array:
    """−log softmax of the own class, (rows, *more); 0 with zero gradients where a row is not real."""
    more = (1,) * (scores.ndim - 1)
    real = real.reshape(-1, *more)
    # Masked before the softmax: its derivative of NaN is NaN, whatever it is multiplied by.
    log_probabilities = jax.nn.log_softmax(jnp.where(real, scores, 0))
    own = jnp.where(real, classes.reshape(-1, *more), 0)
    own = jnp.broadcast_to(own, (*scores.shape[:-1], 1))
    return -jnp.where(real, jnp.take_along_axis(log_probabilities, own, axis=-1), 0)[..., 0]
