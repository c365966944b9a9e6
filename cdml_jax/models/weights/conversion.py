"""Weights of other libraries into our networks: names and layouts, strictly, nothing left over unseen."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from cdml_jax.errors import UserError
from cdml_jax.system.console import escaped

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
      head: the same, of what stands between the features and the classifier and is left with it.
      fitted: our array to what makes theirs of another shape fit, and says what it did; None if it cannot.
    """

    modules: Mapping[str, str | tuple[str, ...]]
    arrays: Mapping[str, str] = dataclasses.field(default_factory=dict)
    classifier: str = ""
    left: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    fitted: Mapping[str, Callable[[np.ndarray, tuple[int, ...]], tuple[np.ndarray, str] | None]] = (
        dataclasses.field(default_factory=dict)
    )

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


class Converted(NamedTuple):
    """Values for our arrays by our names; whose names the file has, what was changed and left, in words."""

    values: dict[str, np.ndarray]
    said: str


def convert(
    values: Mapping[str, np.ndarray],
    ours: Mapping[str, jax.Array | jax.ShapeDtypeStruct],
    tables: Mapping[str, Table],
    *,
    origin: str,
    keep_classifier: bool = False,
    gone: tuple[str, ...] = (),
) -> Converted:
    """Values for our arrays from a file of another library.

    What wrapping programs put in front of all names (`module.`, `backbone.`) is taken off.

    Args:
      values: the file's arrays by name.
      ours: our arrays by dotted name, those of the heads included; only shapes and dtypes are read.
      tables: the sources whose names are known; the one that most names agree with is taken.
      origin: what errors call the file.
      keep_classifier: take their classifier as well, which must be as large as ours.
      gone: our modules that this network does without; theirs are left.

    Returns:
      Our names to values, the heads left out (but for the classifier that is kept), and what was done.

    Raises:
      UserError: names on either side that are neither used nor deliberately left, wrong shapes, or values
        that are not finite numbers with a point.
    """
    body = [name for name in ours if not name.startswith(("heads.", "part."))]
    if keep_classifier:
        body += [name for name in ours if name.startswith(CLASSIFIER)]
    if not tables:
        raise UserError(f"model.weights: no other library's names are known for this network ({origin})")
    wanted_of = {
        source: {name for name_ in body for name in table.sources(name_)} for source, table in tables.items()
    }
    source, prefix = max(
        ((source, prefix) for source in tables for prefix in _prefixes(values)),
        key=lambda pair: len(wanted_of[pair[0]] & _without(values, pair[1]).keys()),
    )
    table, values = tables[source], _without(values, prefix)
    if keep_classifier and not table.classifier:
        raise UserError(f"model.weights: {origin} has no classifier to keep ({source}'s names)")
    wanted, left = wanted_of[source], [r".*\.num_batches_tracked", "n_averaged", *table.left]
    for module in gone:
        left += [
            re.escape(theirs) for last in ("kernel", "bias") for theirs in table.sources(f"{module}.{last}")
        ]
    if table.classifier and not keep_classifier:
        left += [re.escape(table.classifier) + r"\.(weight|bias)", *table.head]
    spare = values.keys() - wanted
    extra = {name for name in spare if not any(re.fullmatch(pattern, name) for pattern in left)}
    note = f" ({source}'s names{f', without {escaped(prefix)}' if prefix else ''})"
    refuse_names(origin, extra, wanted - values.keys(), note)
    filled, done = {}, []
    for name in body:
        filled[name], changed = _filled(name, table, values, ours[name].shape, origin)
        done += [changed] if changed else []
    said = [f"{len(wanted)} arrays by {source}'s names"]
    said += [f"{prefix!r} in front of the names was taken off"] if prefix else []
    said += [f"{len(spare)} left out, such as {escaped(min(spare))}"] if spare else []
    return Converted(cast(origin, filled, ours), ", ".join(said + done))


def _prefixes(values: Mapping[str, np.ndarray]) -> list[str]:
    """Beginnings that most names share, up to a dot, the shortest first; what is left must differ."""
    counts: Counter[str] = Counter()
    for name in values:
        places = [place for place, letter in enumerate(name) if letter == "."]
        counts.update(name[: place + 1] for place in places)
    common = sorted((prefix for prefix, count in counts.items() if 2 * count > len(values)), key=len)
    return ["", *(prefix for prefix in common if len(_without(values, prefix)) == len(values))]


def _without(values: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays by their names without a beginning."""
    return {name.removeprefix(prefix): value for name, value in values.items()}


def _filled(
    name: str, table: Table, values: Mapping[str, np.ndarray], shape: tuple[int, ...], origin: str
) -> tuple[np.ndarray, str]:
    """Our array `name` of theirs, and what was changed, in words."""
    names = table.sources(name)
    parts = [_layout(values[theirs], shape, len(names)) for theirs in names]
    fitting = [part for part in parts if part is not None]
    if len(fitting) == len(parts):
        return (np.concatenate(fitting, axis=-1) if len(fitting) > 1 else fitting[0]), ""
    fitted = table.fitted[name](values[names[0]], shape) if name in table.fitted else None
    if fitted is None:
        theirs = ", ".join(f"{n} {values[n].shape}" for n in names)
        raise UserError(f"model.weights: {theirs} of {origin} does not fit {name} {shape} here")
    return fitted


def refuse_names(origin: str, extra: Iterable[str], missing: Iterable[str], note: str = "") -> None:
    """Raise UserError with the names that only one side has, if there are any."""
    lists = []
    for what, names in (("not in the network", sorted(extra)), ("not in the file", sorted(missing))):
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            lists.append(f"{what}: {', '.join(map(escaped, names[:10]))}{more}")
    if lists:
        raise UserError(f"model.weights: {origin} does not fit the network{note}; {'; '.join(lists)}")


def cast(
    origin: str, values: Mapping[str, np.ndarray], ours: Mapping[str, jax.Array | jax.ShapeDtypeStruct]
) -> dict[str, np.ndarray]:
    """The values in the dtypes of our arrays of the same names.

    Raises:
      UserError: some are whole or complex numbers, NaN or infinite there.
    """
    whole = [name for name, value in values.items() if not jax.numpy.issubdtype(value.dtype, np.floating)]
    if whole:
        kind = values[whole[0]].dtype
        raise UserError(
            f"model.weights: {origin} holds numbers that are not floating-point ({kind}), in "
            f"{', '.join(whole[:10])}"
        )
    with np.errstate(over="ignore"):
        found = {name: value.astype(ours[name].dtype) for name, value in values.items()}
    bad = [name for name, value in found.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(f"model.weights: {origin} holds values that are not finite, in {', '.join(bad[:10])}")
    return found


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
