"""What makes one compiled step differ from another: the terms that stand beside the two costs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from cdml_jax.sampling.triplets import Sample


_LOGGED = ("softmax", "triplet")  # terms that every method logs


class Term(Protocol):
    """A term of the objective: λ Σ / count, its sum and its count over all microbatches.

    What it divides by is known from labels before the network runs, so accumulation is exact. A term is a
    frozen dataclass of static numbers around pure functions; it is hashed and compared by them.
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
class Structure:
    """The compiled part of a method; methods of equal structure share one compiled step.

    Attributes:
      name: for messages; structures are compared by their content.
      terms: beside the weighted softmax and the triplets.
    """

    name: str = dataclasses.field(default="plain", compare=False)
    terms: tuple[Term, ...] = ()

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


PLAIN = Structure()
