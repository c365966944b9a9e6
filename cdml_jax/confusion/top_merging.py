"""Merging the counters of many classes on the host.

What `cdml_jax/confusion/top_counters.py` does by sorts on a device. XLA's sorts of pairs take most of an
epoch's summary where the device is a processor; numpy's sorts of single integers take a tenth of their time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int, Num

_CELLS = 1 << 17  # counters that are merged at once: 1 MB of integers, which stays in a core's cache
_ALL_ONES = np.uint32(0xFFFFFFFF)


class Counters(NamedTuple):
    """Counters of wrong answers, as in `TopConfusions`; no answer of a class has two.

    Attributes:
      indices: (C, K) int32, −1 where a counter is free.
      values: (C, K) int32 or float32, 0 where a counter is free; not negative.
    """

    indices: Int[np.ndarray, "classes top"]
    values: Num[np.ndarray, "classes top"]


def merge_counters(parts: Sequence[Counters], k: int) -> Counters:
    """Of counters of disjoint images, equal answers added up, the k largest of each class less the next one.

    The result of `largest`, bit for bit: equal answers are added in the order of the parts, answers stand by
    falling value, equal values by class, and numbers too small for float32's normal range count as 0.

    >>> one = Counters(np.array([[4, 2]], np.int32), np.array([[3, 1]], np.int32))
    >>> two = Counters(np.array([[2, 7]], np.int32), np.array([[5, 1]], np.int32))
    >>> merged = merge_counters([one, two], 2)
    >>> merged.indices.tolist(), merged.values.tolist()
    ([[2, 4]], [[5, 2]])
    """
    num_classes, dtype = len(parts[0].indices), parts[0].values.dtype
    columns = sum(part.indices.shape[1] for part in parts)
    merged = Counters(np.empty((num_classes, k), np.int32), np.empty((num_classes, k), dtype))
    rows = max(_CELLS // columns, 1)

    def merge(begin: int) -> None:
        block = slice(begin, begin + rows)
        indices = np.concatenate([part.indices[block] for part in parts], axis=1)
        values = np.concatenate([part.values[block] for part in parts], axis=1)
        merged.indices[block], merged.values[block] = _largest(*_summed(indices, _normal(values)), k)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for _ in threads.map(merge, range(0, num_classes, rows)):  # an error of a thread is raised here
            pass
    return merged


def _summed(indices: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's answers ascending, and the sum of equal ones at the first of them, 0 at the others."""
    rows, columns = indices.shape
    # An answer and its column as one integer: numpy sorts these many times as fast as pairs.
    shift = np.uint64(columns.bit_length())
    keys = (indices + np.int64(1)).view(np.uint64)
    keys <<= shift
    keys |= np.arange(columns, dtype=np.uint64)
    keys.sort(axis=1)
    column = (keys & ((np.uint64(1) << shift) - np.uint64(1))).view(np.int64)
    column += columns * np.arange(rows)[:, None]
    keys >>= shift
    answers = keys.astype(np.int32) - np.int32(1)
    place = np.arange(rows * columns).reshape(rows, columns)
    place[:, 1:][answers[:, 1:] == answers[:, :-1]] = 0
    np.maximum.accumulate(place, axis=1, out=place)  # of the first of its run
    sums = np.zeros(rows * columns, values.dtype)
    np.add.at(sums, place.ravel(), values.ravel()[column.ravel()])
    sums = sums.reshape(rows, columns)
    sums[answers < 0] = 0
    return answers, sums


def _largest(answers: np.ndarray, values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each row less the next one, by falling value, then by answer."""
    # The bits of numbers from 0 have the order of the numbers: a falling value and its answer as one integer.
    keys = (_ALL_ONES - values.view(np.uint32)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= answers.view(np.uint32)
    if keys.shape[1] > k + 1:
        keys = np.partition(keys, k, axis=1)[:, : k + 1]
    keys.sort(axis=1)
    found = (_ALL_ONES - (keys >> np.uint64(32)).astype(np.uint32)).view(values.dtype)
    answers = keys.astype(np.uint32).view(np.int32)
    missing = ((0, 0), (0, k + 1 - keys.shape[1]))
    found, answers = np.pad(found, missing), np.pad(answers, missing)
    kept = _normal(found[:, :k] - found[:, k:])
    return np.where(kept > 0, answers[:, :k], np.int32(-1)), kept


def _normal(values: np.ndarray) -> np.ndarray:
    """Values with 0 for those below the normal range, as XLA counts them on a processor."""
    if values.dtype.kind != "f":
        return values
    return np.where(values < np.finfo(values.dtype).tiny, values.dtype.type(0), values)
