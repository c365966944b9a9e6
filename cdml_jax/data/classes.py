"""What classes are called: one value wherever names, families and the families' names go together."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Sequence

PREFIXED = "class name in several families, which has the family's name in front"
ALIKE = "classes whose names differ in capitals or spaces alone"


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
        for place, family in enumerate(self.families or ()):
            if not 0 <= family < len(self.family_names or ()):
                raise ValueError(
                    f"class {self.names[place]} has family {family} of {len(self.family_names or ())}"
                )

    @property
    def number(self) -> int:
        """How many classes there are."""
        return len(self.names)


def distinct_names(
    names: Sequence[str], families: Sequence[str], note: Callable[[str, str], None]
) -> tuple[str, ...]:
    """Names of classes, with the family's name in front of those that several families have.

    Args:
      names: one a class.
      families: the name of each class's family, "" where it has none; empty where no class has one.
      note: takes the kind `PREFIXED` and the names that were equal.

    >>> distinct_names(("alpha", "beta", "alpha"), ("Greek", "Greek", "Coptic"), lambda kind, names: None)
    ('Greek/alpha', 'beta', 'Coptic/alpha')
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    named = list(names)
    for equal in places.values():
        if families and len({families[place] for place in equal}) > 1:
            for place in equal:
                named[place] = f"{families[place]}/{names[place]}".removeprefix("/")
            note(PREFIXED, " and ".join(named[place] for place in equal))
    return tuple(named)


def note_alike(names: Sequence[str], note: Callable[[str, str], None]) -> None:
    """Notes names of classes that a person would take for one.

    Args:
      names: one a class.
      note: takes the kind `ALIKE` and the names.

    >>> note_alike(("Owl", "owl ", "crow"), print)
    classes whose names differ in capitals or spaces alone 'Owl' and 'owl '
    """
    alike: dict[str, dict[str, None]] = {}
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike.setdefault(plain, {})[name] = None
    for group in alike.values():
        if len(group) > 1:
            note(ALIKE, " and ".join(f"'{name}'" for name in group))
