"""What confusion counts and pair weights answer, whatever form they are stored in.

| form | counts | pair weights | where |
|---|---|---|---|
| dense | `DenseConfusion` (C, C) | `DensePairWeights` (C, C) | the host, or whole on every device |
| by class | `ByClassConfusion` | `ByClassPairWeights` | rows of C split over devices, padded |
| top | `TopConfusions` (C, K) | `TopPairWeights` (C, K) | the host, or whole on every device |

All are pytrees: they pass through jit and device_put. Code that has one does not look which form it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


class PairWeights(Protocol):
    """How confusing each ordered pair of classes is: A (C, C), not negative, zero diagonal."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix A that they stand for."""

    @property
    def num_classes(self) -> int:
        """C."""

    @property
    def matrix(self) -> Any | None:
        """A (C, C), where it is held whole; else None."""

    @property
    def arrays(self) -> Any:
        """The arrays that a checkpoint keeps of them."""

    def is_law(self) -> bool:
        """Whether all weights are finite and not negative; they must be on the host."""

    def rows(self, classes: Int[Array, " n"]) -> Float[Array, "n classes"]:
        """A[i, :] of each class i asked for."""

    def at(self, places: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
        """A[i, j] of each ordered pair (i, j) asked for, on the host."""

    def largest(self, number: int) -> Int[np.ndarray, "number 2"]:
        """The ordered pairs (i, j) of largest weight, ties by index; fewer if there are no more."""

    def uniform(self) -> PairWeights:
        """Equal weights of all pairs, stored as these are."""

    def on_host(self) -> PairWeights:
        """The same as numpy arrays, without padding."""

    def draw(
        self, key: PRNGKeyArray, classes: Int[Array, " present"], images: Int[Array, " present"], number: int
    ) -> tuple[Int[Array, " number"], Int[Array, " number"], Bool[Array, " number"]]:
        """Pairs drawn ∝ A among the classes of a batch, under jit.

        Args:
          key: of the draws.
          classes: of the batch, ascending; what follows the last class with images may be any.
          images: of each class in the batch. A first class needs two (anchor and positive), a second one.
          number: of pairs, drawn with replacement.

        Returns:
          Places in `classes` of the first and the second class, and whether there was a pair to draw.
        """

    def others(
        self,
        draws: np.random.Generator,
        anchors: Int[np.ndarray, " groups"],
        number: int,
        present: Bool[np.ndarray, " classes"],
    ) -> Iterator[Sequence[int] | np.ndarray]:
        """For each anchor i up to `number` other classes with images, drawn ∝ A[i, :] without replacement.

        They must be on the host. The others are the first to ring in a race of exponential clocks: that is a
        draw without replacement.
        """

    def joined(
        self, anchors: Float[np.ndarray, " classes"], number: int, present: Bool[np.ndarray, " classes"]
    ) -> Float[np.ndarray, " classes"]:
        r"""How often each class is among the `number` `others` of an anchor drawn ∝ anchors, on the host.

        .. math:: \sum_i \text{anchors}_i \Pr(j \text{ among the others of } i)

        The probabilities are Rosén's approximation for successive sampling, 1 − exp(−p t).
        """


class Statistics(NamedTuple):
    """What the confusion of the epochs so far says.

    Attributes:
      rates: error rate W of each class, (C,) float32, on the host.
      pairs: pair weights A, where the counts are.
    """

    rates: np.ndarray
    pairs: PairWeights


class Confusion(Protocol):
    """How often images of each class were called each class: counts (C, C), hard or soft."""

    @property
    def num_classes(self) -> int:
        """C."""

    @property
    def matrix(self) -> Any | None:
        """The counts (C, C), where they are held whole; else None."""

    @property
    def arrays(self) -> Any:
        """The arrays that a checkpoint keeps of them."""

    def rates(self, smoothing: float | jax.Array = 1.0) -> Float[Array, " classes"]:
        """Smoothed error rate W_i = 1 − P[i, i] of each class, float32; under jit too."""

    def class_weights(
        self,
        *,
        mode: str = "rate",
        beta: float | jax.Array = 1.0,
        smoothing: float | jax.Array = 1.0,
        normalize: bool = True,
    ) -> Float[Array, " classes"]:
        """As `confusion.class_weights`."""

    def pair_weights(self, *, smoothing: float | jax.Array = 1.0, symmetric: bool = False) -> PairWeights:
        """As `confusion.pair_weights`, stored as the counts are."""

    def class_weights_on_host(
        self, *, mode: str, beta: float, smoothing: float, normalize: bool
    ) -> Float[np.ndarray, " classes"]:
        """`class_weights` in one compiled call, on the host."""

    def statistics(self, *, smoothing: float, symmetric: bool) -> Statistics:
        """Rates and pair weights in one compiled call, the latter left where the counts are."""

    def plus(self, epoch: Self, *, decay: float) -> Self:
        """decay · these + an epoch's, float32: what is kept over epochs."""

    def errors_and_correct(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of each class that were called another class, and right: (C,) float64, on the host."""

    def wrong_answers(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The other classes that images of class `index` were called, and their shares of all its answers.

        The classes come in no order. Shares are 0 where the class has no images.
        """

    def most_confused(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True class, called class and rate of the ordered pairs confused most, highest first, ties by index.

        The rate of (i, j) is counts[i, j] / Σ_k counts[i, k]. Pairs that are never confused are left out.
        """

    def on_host(self) -> Confusion:
        """The same as numpy arrays, without padding."""
