"""How confusion counts and pair weights lie on the devices: whole, split by class, or the most frequent.

| `confusion.storage` | counts of an epoch on each device | pair weights on each device |
|---|---|---|
| `dense` | (C, C), summed over the devices once an epoch | (C, C) |
| `by_class` | the rows of C / data classes; every step's rows go to who has their class | the same rows |
| `top` | (C, K) counters, merged over the devices once an epoch | (C, K) |

Dense and top counts cost no communication in the step. Those by class gather the batch's predictions, (B,) if
hard and (B, C) if soft. Dense counts and those by class are the same on any number of devices, to rounding.
Merged counters are not, where a class has more than K wrong answers: they keep the bound of
`cdml_jax/confusion/top.py`. What each of them does is written in `Storage`, below.
"""

from __future__ import annotations

from jax.sharding import Mesh

from cdml_jax.errors import UserError
from cdml_jax.training.storage.by_class import ByClass
from cdml_jax.training.storage.dense import Dense
from cdml_jax.training.storage.images import ImageRecord, empty_record, kept_rows, ranked, seen
from cdml_jax.training.storage.protocol import EpochCounts, Storage
from cdml_jax.training.storage.top import Top

__all__ = [
    "NAMES",
    "EpochCounts",
    "ImageRecord",
    "Storage",
    "empty_record",
    "kept_rows",
    "make_storage",
    "ranked",
    "seen",
]

NAMES = ("auto", "dense", "by_class", "top")
_DENSE_UP_TO, _BY_CLASS_UP_TO = 2_048, 20_000  # classes: 16 MB and 1.6 GB a matrix


def make_storage(kind: str, num_classes: int, top_k: int, mesh: Mesh, *, symmetric: bool = False) -> Storage:
    """The storage of that name; `auto` chooses by the number of classes.

    A class has no more than C − 1 wrong answers: so many counters hold all, whatever `top_k`.

    Raises:
      UserError: pair weights are to be symmetric, and not all pairs are kept.
    """
    if kind == "auto":
        limits = {"dense": _DENSE_UP_TO, "by_class": _BY_CLASS_UP_TO}
        kind = next((name for name, most in limits.items() if num_classes <= most), "top")
    if kind == "top":
        if symmetric:
            raise UserError(
                "confusion.symmetric: True needs all pairs; set confusion.storage to dense or by_class"
            )
        return Top(mesh, num_classes, max(min(top_k, num_classes - 1), 1))
    return Dense(mesh, num_classes) if kind == "dense" else ByClass(mesh, num_classes)
