"""What classes are called: one value wherever names, families and the families' names go together."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Classes:
    """Names of classes in the order of the logits, and the families that they belong to.

    Attributes:
      names: one a class.
      families: the family of every class, as an index into `family_names`; None where there are none.
      family_names: one a family; None where there are none.

    >>> Classes(("wren", "tit", "oak"), (0, 0, 1), ("birds", "trees")).number
    3
    """

    names: tuple[str, ...]
    families: tuple[int, ...] | None = None
    family_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.families is None) != (self.family_names is None):
            raise ValueError("families and family_names come together")
        if self.families is not None and len(self.families) != len(self.names):
            raise ValueError(f"{len(self.families)} families for {len(self.names)} classes")

    @property
    def number(self) -> int:
        """How many classes there are."""
        return len(self.names)
