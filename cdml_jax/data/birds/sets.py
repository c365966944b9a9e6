"""The three sets of drawn birds: how many families, species and images, at what size."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from cdml_jax.data.birds.parts import Difficulty
from cdml_jax.data.birds.species import Species, make_species
from cdml_jax.errors import UserError

SPLITS = ("train", "validation", "test")

# Part of every image's key: any change of what is drawn needs a new version. The difficulty was set by the
# baseline alone, before any other method ran: small_resnet, pretrained on `upstream` for 20 epochs, then
# fine-tuned on `demo` with plain softmax (SGD, rate 0.15, batches of 48), is right on 76 % of the validation
# split after 8 epochs and on 78 % after 12 (rate 0.1); over 95 % of its confusions stay inside a family.
VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True)
class BirdSet:
    """A set of drawn birds.

    Args:
      name: of the set.
      description: one line.
      seed: of its species and of its images.
      first_family: offset into the names of families; no two sets share one.
      family_sizes: species in each family.
      image_size: height and width in pixels.
      per_species: images of each species in each split.
      difficulty: how much varies inside a species.
    """

    name: str
    description: str
    seed: int
    first_family: int
    family_sizes: tuple[int, ...]
    image_size: int
    per_species: dict[str, int]
    difficulty: Difficulty = dataclasses.field(default_factory=Difficulty)

    @functools.cached_property
    def species(self) -> tuple[Species, ...]:
        """The classes, in order of label."""
        return make_species(self.seed, self.family_sizes, self.first_family)

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """`VERSION` as integers."""
        return tuple(int(part) for part in VERSION.split("."))

    @staticmethod
    def from_fields(fields: dict[str, Any]) -> BirdSet:
        """The set whose `dataclasses.asdict`, come through JSON, is `fields`."""
        sizes, difficulty = tuple(fields["family_sizes"]), Difficulty(**fields["difficulty"])
        return BirdSet(**(fields | {"family_sizes": sizes, "difficulty": difficulty}))

    @staticmethod
    def named(name: str) -> BirdSet:
        """The set called `name`.

        Raises:
          UserError: there is none.
        """
        if name not in CONFIGS:
            raise UserError(f"synthetic_birds has no set {name!r}; choose one of {', '.join(CONFIGS)}")
        return CONFIGS[name]


CONFIGS: dict[str, BirdSet] = {
    birds.name: birds
    for birds in (
        BirdSet(
            name="demo",
            description="48 species at 64 pixels, drawn in seconds.",
            seed=2018,
            first_family=0,
            family_sizes=(4,) * 12,
            image_size=64,
            per_species={"train": 20, "validation": 20, "test": 50},
        ),
        BirdSet(
            name="cub_like",
            description="200 species at 224 pixels, in families of 2 to 8, about the size of CUB-200-2011.",
            seed=2011,
            first_family=12,
            family_sizes=(2, 4, 5, 6, 8) * 8,
            image_size=224,
            per_species={"train": 30, "validation": 10, "test": 30},
        ),
        BirdSet(
            name="upstream",
            description="120 other species at 64 pixels, to pretrain the network that the demo fine-tunes.",
            seed=1998,
            first_family=52,
            family_sizes=(4,) * 30,
            image_size=64,
            per_species={"train": 50, "validation": 10},
        ),
    )
}
