"""The nearest embeddings, exact, in blocks on device.

Neighbours are by Euclidean distance, which on embeddings of length 1 ranks as cosine similarity does. They
are found in float32, and equal distances go by index. Queries are compared with the references in blocks, so
no matrix of all pairs is ever held.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int

_STEP = 1 << 16  # references that are scored before the best are chosen among them
_WIDEST = 128  # group of neighbouring references; each step has a multiple of it
# Scores held at once. On a CPU the allocator gives such a buffer again and again; a larger one comes in new
# pages each time, which cost as much time as the products. Other devices are kept busy by more.
_SCORES = {"cpu": 1 << 22}
_SCORES_ELSEWHERE = 1 << 27
_ENTRIES = 1 << 24  # of the lists of neighbours that one block of queries may hold
_NOTHING = -1e30  # score of padding: finite, since a TPU splits a float32 into parts
_LARGEST = 1e28  # square of an embedding's length


def nearest(
    embeddings: Float[ArrayLike, "queries size"],
    references: Float[ArrayLike, "references size"] | None = None,
    *,
    k: int,
    devices: Sequence[jax.Device] | None = None,
) -> Int[np.ndarray, "queries k"]:
    """Indices of the k nearest references of every query, the nearest first, equal distances by index.

    Args:
      embeddings: of the queries.
      references: what is searched; None for the other embeddings.
      k: how many.
      devices: share the queries; None for JAX's default device.

    Returns:
      (queries, k) int32; −1 where there are fewer than k references.

    Raises:
      ValueError: shapes that do not fit together, an embedding that is not finite, k below 1.

    >>> nearest([[0.0], [1.0], [5.0], [1.0]], k=2).tolist()
    [[1, 3], [3, 0], [1, 3], [1, 0]]
    """
    if k < 1:
        raise ValueError(f"k must be positive, not {k}")
    found = [
        np.asarray(indices)[: rows.stop - rows.start]
        for rows, indices, _ in list(search(embeddings, references, k, devices))
    ]
    return np.concatenate(found) if found else np.zeros((0, k), np.int32)


def search(
    embeddings: ArrayLike, references: ArrayLike | None, k: int, devices: Sequence[jax.Device] | None
) -> Iterator[tuple[slice, jax.Array, jax.Device]]:
    """Blocks of queries, the indices found for them (padded), and where these lie."""
    queries = checked_embeddings(embeddings, "embeddings")
    rows = queries if references is None else checked_embeddings(references, "references")
    if rows.shape[1] != queries.shape[1]:
        raise ValueError(f"embeddings are of size {queries.shape[1]}, references of size {rows.shape[1]}")
    devices = list(devices) if devices is not None else [jnp.zeros(()).device]
    table = _in_steps(rows)
    placed = [jax.device_put(table, device) for device in devices]
    scores = _SCORES.get(devices[0].platform, _SCORES_ELSEWHERE)
    share = -(-len(queries) // len(devices))
    block = max(8, min(scores // table.shape[1], _ENTRIES // k, share) // 8 * 8)
    # Wide enough that few groups are left, narrow enough that the k best hold few references.
    group = min(_WIDEST, 1 << max(0, round(math.log2(max(1, len(rows) / k)) / 2)))
    for number, start in enumerate(range(0, len(queries), block)):
        part = queries[start : start + block]
        padded = np.pad(part, ((0, block - len(part)), (0, 0)))
        own = np.arange(start, start + block, dtype=np.int32) if references is None else np.int32(-1)
        device = devices[number % len(devices)]
        indices = _nearest(
            *jax.device_put((padded, np.broadcast_to(own, block)), device),
            placed[number % len(devices)],
            k=k,
            group=group,
        )
        yield slice(start, start + len(part)), indices, device


def checked_embeddings(embeddings: ArrayLike, name: str) -> np.ndarray:
    """(rows, size) float32, or a ValueError that says what is wrong with `name`."""
    array = np.asarray(embeddings, np.float32)
    if array.ndim != 2:
        raise ValueError(f"{name} must be (rows, size), not {array.shape}")
    bad = ~(np.einsum("nd,nd->n", array, array) < _LARGEST)
    if bad.any():
        raise ValueError(f"{name}: row {int(bad.argmax())} is not finite, or too long for float32")
    return array


def checked_labels(labels: ArrayLike | None, number: int, name: str) -> np.ndarray:
    """(number,) integers, or a TypeError or ValueError that says what is wrong with `name`."""
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name}: classes are integers, not {array.dtype}")
    if array.shape != (number,):
        raise ValueError(f"{name}: shape {array.shape} does not fit {number} embeddings")
    return array


def _in_steps(rows: np.ndarray) -> np.ndarray:
    """(steps, references, size + 1): references, −½‖r‖² as a last column: a product then ranks."""
    steps = max(1, -(-len(rows) // _STEP))
    wide = _WIDEST * -(-len(rows) // (steps * _WIDEST)) or _WIDEST
    table = np.zeros((steps * wide, rows.shape[1] + 1), np.float32)
    table[: len(rows), :-1] = rows
    table[: len(rows), -1] = -0.5 * np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    table[len(rows) :, -1] = _NOTHING
    return table.reshape(steps, wide, -1)


@functools.partial(jax.jit, static_argnames=("k", "group"))
def _nearest(
    queries: Float[Array, "block size"],
    own: Int[Array, " block"],
    references: Float[Array, "steps wide columns"],
    *,
    k: int,
    group: int,
) -> Int[Array, "block k"]:
    """Indices of the k nearest of a block of queries, `own` left out; −1 where there are no more.

    The k best of a row lie in the k groups of neighbouring columns whose best are best: only those are
    sorted. All is ordered by (score, index), so that groups and columns of equal score go by index as well.
    """
    block = queries.shape[0]
    steps, wide, _ = references.shape
    number = k + 1  # one more: `own` may be among them
    queries = jnp.concatenate([queries, jnp.ones((block, 1), jnp.float32)], axis=1)

    def search(best, step):
        index, rows = step
        scores = jnp.matmul(queries, rows.T, precision="highest").reshape(block, wide // group, group)
        tops = scores.max(axis=-1)
        _, groups = jax.lax.top_k(tops, min(number, tops.shape[1]))
        groups = jnp.sort(groups, axis=1)
        chosen = jnp.take_along_axis(scores, groups[..., None], axis=1)
        columns = (groups[..., None] * group + jnp.arange(group)).astype(jnp.int32) + index * wide
        # What came before has smaller indices, and stands first.
        values = jnp.concatenate([best[0], chosen.reshape(block, -1)], axis=1)
        columns = jnp.concatenate([best[1], columns.reshape(block, -1)], axis=1)
        values, places = jax.lax.top_k(values, number)
        return (values, jnp.take_along_axis(columns, places, axis=1)), None

    nothing = jnp.full((block, number), -jnp.inf), jnp.full((block, number), -1, jnp.int32)
    (values, indices), _ = jax.lax.scan(search, nothing, (jnp.arange(steps, dtype=jnp.int32), references))
    indices = jnp.where(values > _NOTHING / 2, indices, -1)
    # All but `own`, moved up by one from where it stands.
    place = jnp.where(indices == own[:, None], jnp.arange(number), k).min(axis=1, keepdims=True)
    return jnp.where(jnp.arange(k) < place, indices[:, :k], indices[:, 1:])
