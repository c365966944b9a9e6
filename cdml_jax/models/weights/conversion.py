"""Weights of other libraries into our networks: names and layouts, strictly, nothing left over unseen."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import jax
import numpy as np

from cdml_jax.errors import UserError

CLASSIFIER = "heads.classifier"
# Our last name of an array, and PyTorch's.
_LAST_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Where the arrays of one of our networks stand in the files of one source.

    Attributes:
      modules: our module to theirs, or to several of theirs whose outputs stand side by side in ours.
      arrays: our array to theirs, where it is no part of such a module; the same numbers in the same order.
      classifier: their module that is our classifier; `""` where they have none.
      left: regular expressions of their names that are deliberately not used.
    """

    modules: Mapping[str, str | tuple[str, ...]]
    arrays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    classifier: str = ""
    left: tuple[str, ...] = ()

    def sources(self, name: str) -> tuple[str, ...]:
        """Their names of our array `name`, such as `blocks.0.expand.conv.kernel`.

        Raises:
          KeyError: our array is not in the table.
        """
        if name in self.arrays:
            return (self.arrays[name],)
        module, _, last = name.rpartition(".")
        theirs = self.classifier if module == CLASSIFIER else self.modules[module]
        theirs = (theirs,) if isinstance(theirs, str) else theirs
        return tuple(f"{module}.{_LAST_NAMES[last]}" for module in theirs)


def convert(
    values: Mapping[str, np.ndarray],
    ours: Mapping[str, jax.Array | jax.ShapeDtypeStruct],
    tables: Mapping[str, Table],
    *,
    origin: str,
    keep_classifier: bool = False,
) -> dict[str, np.ndarray]:
    """Values for our arrays from a file of another library.

    Args:
      values: the file's arrays by name.
      ours: our arrays by dotted name, those of the heads included; only shapes and dtypes are read.
      tables: the sources whose names are known; the one that most names agree with is taken.
      origin: what errors call the file.
      keep_classifier: take their classifier as well, which must be as large as ours.

    Returns:
      Our names to values, the heads left out (but for the classifier that is kept).

    Raises:
      UserError: names on either side that are neither used nor deliberately left, wrong shapes, or values
        that are not finite.
    """
    body = [name for name in ours if not name.startswith("heads.")]
    if keep_classifier:
        body += [name for name in ours if name.startswith(CLASSIFIER)]

    def agreement(source: str) -> int:
        return sum(name in values for ours_ in body for name in tables[source].sources(ours_))

    if not tables:
        raise UserError(f"model.weights: no other library's names are known for this network ({origin})")
    source = max(tables, key=agreement)
    table = tables[source]
    if keep_classifier and not table.classifier:
        raise UserError(f"model.weights: {origin} has no classifier to keep ({source}'s names)")
    used = {name: table.sources(name) for name in body}
    wanted = {name for names in used.values() for name in names}
    left = [r".*\.num_batches_tracked", *table.left]
    if table.classifier and not keep_classifier:
        left.append(re.escape(table.classifier) + r"\.(weight|bias)")
    extra = {name for name in values.keys() - wanted if not any(re.fullmatch(p, name) for p in left)}
    refuse_names(origin, extra, wanted - values.keys(), f" ({source}'s names)")
    filled = {}
    for name, names in used.items():
        shape = ours[name].shape
        parts = [_layout(values[theirs], shape, len(names)) for theirs in names]
        fitting = [part for part in parts if part is not None]
        if len(fitting) < len(parts):
            theirs = ", ".join(f"{n} {values[n].shape}" for n in names)
            raise UserError(f"model.weights: {theirs} of {origin} does not fit {name} {shape} here")
        filled[name] = np.concatenate(fitting, axis=-1) if len(fitting) > 1 else fitting[0]
    refuse_not_finite(origin, filled)
    return {name: value.astype(ours[name].dtype) for name, value in filled.items()}


def refuse_names(origin: str, extra: Iterable[str], missing: Iterable[str], note: str = "") -> None:
    """Raise UserError with the names that only one side has, if there are any."""
    lists = []
    for what, names in (("not in the network", sorted(extra)), ("not in the file", sorted(missing))):
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            lists.append(f"{what}: {', '.join(names[:10])}{more}")
    if lists:
        raise UserError(f"model.weights: {origin} does not fit the network{note}; {'; '.join(lists)}")


def refuse_not_finite(origin: str, values: Mapping[str, np.ndarray]) -> None:
    """Raise UserError with the names of arrays that hold NaN or infinity, if there are any."""
    bad = [name for name, value in values.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(f"model.weights: {origin} holds values that are not finite, in {', '.join(bad[:10])}")


def _layout(value: np.ndarray, shape: tuple[int, ...], parts: int) -> np.ndarray | None:
    """Their array in our layout, or None where it does not fit; `parts` of them make one of ours.

    Convolutions are (out, in, height, width) there and (height, width, in, out) here, dense layers (out, in)
    and (in, out). A dense layer on flattened maps fits a convolution over the whole map, and the reverse.
    """
    shape = (*shape[:-1], shape[-1] // parts)
    if value.ndim in (2, 4) and len(shape) in (2, 4):
        theirs = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
        if value.size != np.prod(theirs) or value.shape[0] != theirs[0]:
            return None
        if value.ndim == len(theirs) and value.shape != theirs:
            return None
        value = value.reshape(theirs)
        return value.transpose((2, 3, 1, 0) if len(shape) == 4 else (1, 0))
    if value.size != np.prod(shape) or [n for n in value.shape if n > 1] != [n for n in shape if n > 1]:
        return None
    return value.reshape(shape)
