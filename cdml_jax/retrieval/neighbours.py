"""The nearest embeddings, as a brute force in float64 finds them, in blocks on device.

Neighbours are by Euclidean distance, which on embeddings of length 1 ranks as cosine similarity does; equal
distances go by index. Queries are compared with the references in blocks, so no matrix of all pairs is ever
held. Three searches follow each other, each for the queries that the one before cannot be sure of:

1. A product in float32 gives a shortlist with bounds of its errors (shortlist.py). Neighbours whose order the
   bounds leave open are compared by differences in float64 (exact.py). On ordinary embeddings that is all.
2. The same with a product in float64, where many queries are left.
3. All references that a product in float64 does not exclude, by differences.

Written by hand because it was measured to be faster than faiss's exact index, by 1.17 times on two cores
(60,000 embeddings of 128 numbers; docs/performance.md, November 2025), and needs no library besides JAX.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.retrieval.checks import checked_embeddings
from cdml_jax.retrieval.exact import first_copies, put_in_order, search_all
from cdml_jax.retrieval.shortlist import Bound, Frame, asked, group_size, shortlist, table

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike
    from jaxtyping import Float, Int, Num

# Scores held at once. On a CPU the allocator gives such a buffer again and again; a larger one comes in new
# pages each time, which cost as much time as the products. Other devices are kept busy by more.
_SCORES = {"cpu": 1 << 22}
_SCORES_ELSEWHERE = 1 << 27
_ENTRIES = 1 << 24  # of the shortlists that one block of queries may hold
_IEEE = ("cpu", "gpu", "cuda", "rocm")  # platforms whose sums round to nearest, in float64 too
_SPARE = 6  # places of a shortlist beyond the neighbours that are asked for
_MANY = 256  # queries that are worth a second search on device: below it the host is done before it compiles
_AHEAD = 2  # blocks that each device is given before the first is waited for

Found = tuple["Int[np.ndarray, ' found']", "Int[np.ndarray, 'found k']"]
"""Numbers of queries, and the indices of their neighbours; −1 where there are no more."""


def nearest(
    embeddings: Num[ArrayLike, "queries size"],
    references: Num[ArrayLike, "references size"] | None = None,
    *,
    k: int,
    devices: Sequence[jax.Device] | None = None,
) -> Int[np.ndarray, "queries k"]:
    """Indices of the k nearest references of every query, the nearest first, equal distances by index.

    They are those of a brute force in float64 on the same numbers, wherever these lie. Embeddings that are
    far from each other and near in clusters take longer, up to the time of comparing all by differences.

    Args:
      embeddings: of the queries; any real type, float64 with all its digits.
      references: what is searched; None for the other embeddings.
      k: how many.
      devices: share the queries; None for JAX's default device.

    Returns:
      (queries, k) int32; −1 where there are fewer than k references.

    Raises:
      ValueError: shapes that do not fit together, an embedding that is not finite, k below 1.
      TypeError: embeddings that are not real numbers.

    >>> nearest([[0.0], [1.0], [5.0], [1.0]], k=2).tolist()
    [[1, 3], [3, 0], [1, 3], [1, 0]]
    """
    if k < 1:
        raise ValueError(f"k must be positive, not {k}")
    queries, held = checked_pair(embeddings, references)
    found = np.full((len(queries), k), -1, np.int32)
    for rows, indices in search(queries, held, k, devices):
        found[rows] = indices
    return found


def checked_pair(
    embeddings: Num[ArrayLike, "queries size"], references: Num[ArrayLike, "references size"] | None
) -> tuple[Float[np.ndarray, "queries size"], Float[np.ndarray, "references size"] | None]:
    """Both as arrays of finite numbers and of one size, or a ValueError that says what is wrong."""
    queries = checked_embeddings(embeddings, "embeddings")
    if references is None:
        return queries, None
    held = checked_embeddings(references, "references")
    if held.shape[1] != queries.shape[1]:
        raise ValueError(f"embeddings are of size {queries.shape[1]}, references of size {held.shape[1]}")
    return queries, held


def search(
    queries: Float[np.ndarray, "queries size"],
    references: Float[np.ndarray, "references size"] | None,
    k: int,
    devices: Sequence[jax.Device] | None,
    classes: Int[np.ndarray, " references"] | None = None,
) -> Iterator[Found]:
    """Blocks of queries with their neighbours, each query once, in any order; arrays as `checked_pair` gives.

    Where `classes` of the references are given, neighbours whose distances differ by rounding alone may stand
    in any order if all of them are of one class: figures of the classes are the same.
    """
    alone = references is None
    held = queries if references is None else references
    devices = list(devices) if devices is not None else [jnp.zeros(()).device]
    frame = Frame.of(queries, held)
    wanted = min(k + alone, len(held))  # one more: the query itself may be among them
    if not wanted:
        yield np.arange(len(queries)), np.full((len(queries), k), -1, np.int32)
        return
    left = np.arange(len(queries))
    for dtype in (np.float32, np.float64):
        if dtype is np.float64:
            if left.size < _MANY:
                break
            if devices[0].platform not in _IEEE:
                devices = jax.devices("cpu")[:1]  # a TPU's float64 has fewer digits
        unsure = []
        for rows, indices, others in _shortlists(queries, held, left, frame, wanted, devices, dtype, classes):
            yield rows, _without_own(indices, rows, k, alone)
            unsure.append(others)
        left = np.concatenate(unsure) if unsure else left[:0]
    if left.size:
        copies = first_copies(held, wanted)
        few = held[copies] if len(copies) < len(held) else held
        for start in range(0, len(left), 512):
            rows = left[start : start + 512]
            yield rows, _without_own(copies[search_all(queries[rows], few, frame, wanted)], rows, k, alone)


def _shortlists(
    queries: np.ndarray,
    references: np.ndarray,
    rows: np.ndarray,
    frame: Frame,
    wanted: int,
    devices: Sequence[jax.Device],
    dtype: DTypeLike,
    classes: np.ndarray | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Block by block: numbers of queries, their `wanted` nearest in order, numbers of those left unsure."""
    # float64 is allowed inside the calls alone, not where the caller goes on between blocks.
    wide = jax.enable_x64 if dtype is np.float64 else contextlib.nullcontext
    total = len(references)
    bound = Bound.of(references.shape[1], dtype, nearest=devices[0].platform in _IEEE)
    scored = table(references, frame, dtype, bound)
    number = min(wanted + _SPARE, scored.shape[0] * scored.shape[1])
    with wide(True):
        placed = [jax.device_put(scored, device) for device in devices]
    scores = _SCORES.get(devices[0].platform, _SCORES_ELSEWHERE)
    share = -(-len(rows) // (8 * len(devices)))  # in eights, rounded up: no last block of a few queries
    block = 8 * max(1, min(scores // (8 * scored.shape[1]), _ENTRIES // (8 * number), share))
    pending: collections.deque = collections.deque()

    def finish() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part, results = pending.popleft()
        indices, ends, sure = (np.asarray(result)[: len(part)] for result in results)
        found = put_in_order(queries[part[sure]], references, indices[sure], ends[sure], wanted, classes)
        return part[sure], found[:, :wanted], part[~sure]

    for place, start in enumerate(range(0, len(rows), block)):
        part = rows[start : start + block]
        to = place % len(devices)
        with wide(True):
            given = jax.device_put(asked(queries[part], block, frame, dtype, bound), devices[to])
            results = shortlist(
                *given,
                placed[to],
                number=number,
                wanted=wanted,
                whole=number >= total,
                group=group_size(total, wanted),
                kappa=bound.kappa,
            )
        pending.append((part, results))
        if len(pending) > _AHEAD * len(devices):
            yield finish()
    while pending:
        yield finish()


def _without_own(indices: np.ndarray, rows: np.ndarray, k: int, alone: bool) -> Int[np.ndarray, "rows k"]:
    """(rows, k) of (rows, wanted): without the query itself where `alone`, −1 where there are no more."""
    if alone and (indices[:, 0] == rows).all():
        indices = indices[:, 1:]
    elif alone:
        # The rest moves up by one from where it stands; the last goes where it is not among them.
        number = indices.shape[1]
        at = indices == rows[:, None]
        place = np.where(at.any(axis=1), at.argmax(axis=1), number)[:, None]
        indices = np.where(np.arange(number - 1) < place, indices[:, :-1], indices[:, 1:])
    return np.pad(indices, ((0, 0), (0, k - indices.shape[1])), constant_values=-1).astype(np.int32)
