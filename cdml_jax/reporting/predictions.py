"""What a run said of every image of a split, in the split's order, as results keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Integer

    from cdml_jax.system.archives import Archive


@dataclass(frozen=True, eq=False)
class Predictions:
    """The likeliest classes of each image of a split; images are in the split's order.

    Attributes:
      names: of the images, as the data set calls them: paths below its folder.
      labels: the class of each.
      top_classes: the likeliest classes of each, at most five, the likeliest first.
      top_probabilities: their probabilities.
      true_probability: the probability of the image's own class.
      embeddings: float16, where they were kept and asked for; else None.
      calibrated_probability: of the likeliest class at the run's temperature; None where it has none.
      neighbours: the images of this split whose embeddings are nearest, the nearest first, −1 for none; None
        where they were not measured.
      similarities: the cosines of the angles to them.
      map: a place of each image in the unit square, near those of similar embeddings; None as above.
    """

    names: tuple[str, ...]
    labels: Integer[np.ndarray, " images"]
    top_classes: Int[np.ndarray, "images top"]
    top_probabilities: Float[np.ndarray, "images top"]
    true_probability: Float[np.ndarray, " images"]
    embeddings: Float[np.ndarray, "images size"] | None = None
    calibrated_probability: Float[np.ndarray, " images"] | None = None
    neighbours: Int[np.ndarray, "images near"] | None = None
    similarities: Float[np.ndarray, "images near"] | None = None
    map: Float[np.ndarray, "images 2"] | None = None

    def __post_init__(self) -> None:
        for name in _TYPES:
            array = getattr(self, name)
            if array is not None:
                if len(array) != len(self.names):
                    raise ValueError(f"{name} has {len(array)} rows for {len(self.names)} images")
                object.__setattr__(self, name, np.asarray(array, _TYPES[name]))

    def arrays(self, split: str) -> dict[str, np.ndarray]:
        """What an archive keeps of them, besides the names."""
        found = {f"{split}_{name}": getattr(self, name) for name in _TYPES}
        return {name: array for name, array in found.items() if array is not None}

    @classmethod
    def of_archive(
        cls, archive: Archive, split: str, names: list[str], *, embeddings: bool = False
    ) -> Predictions:
        """What `arrays` gave; embeddings, which are large, only where they are asked for.

        Raises:
          KeyError: an array is missing.
        """
        wanted = [name for name in _TYPES if name not in _OPTIONAL]
        wanted += [name for name in _OPTIONAL if f"{split}_{name}" in archive and name != "embeddings"]
        if embeddings and f"{split}_embeddings" in archive:
            wanted.append("embeddings")
        found: Mapping[str, Any] = {name: archive[f"{split}_{name}"] for name in wanted}
        return cls(tuple(names), **found)


_TYPES: dict[str, Any] = {
    "labels": np.int32,
    "top_classes": np.int32,
    "top_probabilities": np.float32,
    "true_probability": np.float32,
    "embeddings": np.float16,
    "calibrated_probability": np.float32,
    "neighbours": np.int32,
    "similarities": np.float16,
    "map": np.float16,
}
_OPTIONAL = ("embeddings", "calibrated_probability", "neighbours", "similarities", "map")
