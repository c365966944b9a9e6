"""What makes one compiled step differ from another: terms besides the two costs, a part, images left out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from cdml_jax.sampling.triplets import Sample


_LOGGED = ("softmax", "triplet")  # terms that every method logs
EMBEDDING = "embedding"  # what a term trains, in its `trains`
GATHER = "gather"  # what a term needs that compares all rows with each other


class Term(Protocol):
    """A term of the objective: λ Σ / count, its sum and its count over all microbatches.

    What it divides by is known from labels before the network runs, so accumulation is exact. A term is a
    frozen dataclass of static numbers around pure functions; it is hashed and compared by them.

    A term may say more, each by an attribute that most terms lack. `needs`: names of what it takes as further
    keywords, "map" (the last map of the network), "gather" (a function that makes rows whole on every device)
    or what the structure's part gives. `refusal(num_classes, shapes)`: why it cannot be computed from what it
    needs, of these shapes, or "". `trains`: "embedding" where its gradient is of the embedding, which is then
    what is measured.
    """

    @property
    def name(self) -> str:
        """Key of its weight in `Costs.terms`; its value is logged as `NAME_loss`."""

    def weight(self, num_classes: int) -> float:
        """λ as published, for so many classes."""

    def prepare(self, labels: Int[Array, "parts rows"], draw: Callable[[Sample[Any]], Any]) -> Any:
        """What the term uses that labels and draws give, each leaf (parts, …).

        Args:
          labels: of each microbatch, whole on every device; −1 where a row does not count.
          draw: `draw(sample)` calls `sample(key, labels, pair_weights, where=...)` for each microbatch with
            a key of this term and step.
        """

    def count(self, prepared: Any) -> Int[Array, ""]:
        """What the sum over all microbatches is divided by."""

    def __call__(
        self,
        logits: Float[Array, "rows classes"],
        embeddings: Float[Array, "rows size"],
        labels: Int[Array, " rows"],
        prepared: Any,
    ) -> Float[Array, ""]:
        """The sum over one microbatch, of global arrays; `prepared` is its part of `prepare`'s."""


@dataclasses.dataclass(frozen=True)
class Dropping:
    """A share of the images is left out of the objective: those whose predictions changed most.

    Attributes:
      share: of the images, once it is reached.
      ramp: epochs in which the share grows to it, linearly.

    >>> [round(Dropping().share_of(epoch), 3) for epoch in (0, 1, 2, 3, 11, 12)]
    [0.0, 0.0, 0.025, 0.05, 0.25, 0.25]
    """

    share: float = 0.25
    ramp: int = 10

    def share_of(self, epoch: int) -> float:
        """The share in an epoch after the warm-up, from 0; a change is first known after the second."""
        return self.share * min(max(epoch - 1, 0) / self.ramp, 1.0)


@dataclasses.dataclass(frozen=True)
class Substep:
    """One update from a batch.

    Attributes:
      view: what is done to the images, a key of `cdml_jax.methods.views.VIEWS`; "" for nothing.
      logits: whose the weighted softmax is, by a name that the part gives; the update is then by that
        softmax alone. "" for the network's own, with triplets and terms.
      weight: of the softmax.
    """

    view: str = ""
    logits: str = ""
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Structure:
    """The compiled part of a method; methods of equal structure share one compiled step.

    Attributes:
      name: for messages; structures are compared by their content.
      terms: besides the weighted softmax and the triplets.
      part: what stands between the last map and the heads, a key of `cdml_jax.models.parts.PARTS`; "" for
        nothing.
      dropping: whether images whose predictions change most are left out; None for no.
      substeps: the updates that are made of a batch, one after another; what is logged and counted is of
        the last.
    """

    name: str = dataclasses.field(default="plain", compare=False)
    terms: tuple[Term, ...] = ()
    part: str = ""
    dropping: Dropping | None = None
    substeps: tuple[Substep, ...] = (Substep(),)

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        for name in names:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _LOGGED:
                raise ValueError(
                    f"structure {self.name}: no term can be called {name!r}: NAME_loss is a key of the log; "
                    f"use small letters, digits and _, and not {' or '.join(_LOGGED)}"
                )
        if len(set(names)) < len(names):
            raise ValueError(f"structure {self.name}: terms need names of their own, not {', '.join(names)}")

    @property
    def warm(self) -> Structure:
        """What its warm-up epochs need: the same parameters, none of the terms."""
        return Structure(self.part or PLAIN.name, part=self.part, substeps=self.substeps)

    @property
    def taps(self) -> tuple[str, ...]:
        """What its terms take of the network besides logits and embeddings."""
        needs = dict.fromkeys(need for term in self.terms for need in needs_of(term))
        return tuple(need for need in needs if need != GATHER)

    @property
    def views(self) -> tuple[str, ...]:
        """What is done to the images in some of the updates."""
        return tuple(substep.view for substep in self.substeps if substep.view)

    @property
    def trains_embedding(self) -> bool:
        """Whether a term's gradient is of the embedding."""
        return any(getattr(term, "trains", "") == EMBEDDING for term in self.terms)


def needs_of(term: Term) -> tuple[str, ...]:
    """What a term takes besides logits, embeddings and labels; most take nothing."""
    return getattr(term, "needs", ())


def refusal_of(term: Term, num_classes: int, shapes: dict[str, tuple[int, ...]]) -> str:
    """Why a term cannot be computed from `needs` of these shapes; "" where it can."""
    refusal = getattr(term, "refusal", None)
    return refusal(num_classes, shapes) if refusal else ""


PLAIN = Structure()
