"""How confusion counts and pair weights lie on the devices: whole, split by row, or the most frequent alone.

| `confusion.storage` | counts of an epoch on each device | pair weights on each device |
|---|---|---|
| `dense` | (C, C), summed over the devices once an epoch | (C, C) |
| `by_row` | the rows of C / data classes; every step's rows go to who has their class | the same rows |
| `top` | (C, K) counters, merged over the devices once an epoch | (C, K) |

Dense and top counts cost no communication in the step. Those by row gather the batch's predictions, (B,) if
hard and (B, C) if soft. Dense and by-row counts are the same on any number of devices, to rounding. Merged
counters are not, where a class has more than K wrong answers: they keep the bound of `top_confusions`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cdml_jax import confusion, top_confusions
from cdml_jax.sampling import Triplets, sample_triplets
from cdml_jax.top_confusions import TopConfusions, TopPairWeights
from cdml_jax.training.mesh import DATA, MODEL, by_row, gather_rows, of_counts, put_replicated, replicated

Counts = Any  # (C, C), or its rows, or TopConfusions
PairWeights = Any  # (C, C), or its rows, or TopPairWeights
NAMES = ("auto", "dense", "by_row", "top")
_DENSE_UP_TO, _BY_ROW_UP_TO = 2_048, 20_000  # classes: 16 MB and 1.6 GB a matrix
_ROWS = 64  # rows are a multiple of it: of one shape on any common number of devices


def make_storage(kind: str, num_classes: int, top_k: int, mesh: Mesh) -> Storage:
    """The storage of that name; `auto` chooses by the number of classes.

    A class has no more than C − 1 wrong answers: so many counters hold all, whatever `top_k`.
    """
    if kind == "auto":
        kind = "dense" if num_classes <= _DENSE_UP_TO else "by_row" if num_classes <= _BY_ROW_UP_TO else "top"
    if kind == "top":
        return Top(mesh, num_classes, max(min(top_k, num_classes - 1), 1))
    return Dense(mesh, num_classes) if kind == "dense" else ByRow(mesh, num_classes)


@dataclasses.dataclass(frozen=True)
class Dense:
    """A matrix (C, C) for each place on "data"."""

    mesh: Mesh
    num_classes: int
    name = "dense"
    whole_pairs = True

    def empty(self, dtype: Any) -> Counts:
        """Counts of no image, (data, C, C)."""
        one = confusion.init(self.num_classes, dtype)
        return jnp.broadcast_to(one, (self.mesh.shape[DATA], *one.shape))

    def shardings(self) -> Any:
        """Of the leaves of the counts."""
        return of_counts(self.mesh)

    def add(self, counts: Counts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool) -> Counts:
        """Each device adds its own rows to its own counts: nothing crosses devices."""
        devices = counts.shape[0]
        rows = jax.tree.map(
            lambda a: a.reshape(devices, -1, *a.shape[1:]), (batch["label"], logits, batch["mask"])
        )

        def add(counts, labels, logits, mask):
            return confusion.update(counts, labels, _predictions(logits, soft), where=mask)

        return jax.vmap(add)(counts, *rows)

    def total(self, counts: Counts) -> Counts:
        """Counts of all devices, on the host."""
        return np.asarray(_sum_matrices(counts, mesh=self.mesh))

    def nothing(self) -> Counts:
        """What is kept over epochs before the first: float32."""
        return np.zeros((self.num_classes, self.num_classes), np.float32)

    def keep(self, kept: Counts, decay: float, total: Counts) -> Counts:
        """What is kept, with decay, and an epoch's counts."""
        return (decay * kept + total).astype(np.float32)

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights as the step takes them."""
        return put_replicated(self.mesh, pairs)

    def draw(self, keys: jax.Array, labels: jax.Array, pairs: PairWeights, *, num_triplets: int) -> Triplets:
        """Triplets of each microbatch (parts, B / parts) of whole labels, −1 where a row does not count."""
        return _draw(keys, labels, pairs, num_triplets=num_triplets)

    def abstract_kept(self, data: int) -> tuple[Counts, PairWeights]:
        """What is kept and the pair weights, as saved with `data` places, for a restore here."""
        matrix = _abstract((self.num_classes, self.num_classes), np.float32, replicated(self.mesh))
        return matrix, matrix

    def abstract_total(self) -> Counts:
        """What `total` makes on each device."""
        return self.abstract_kept(self.mesh.shape[DATA])[0]

    def abstract_saved(self, counts: Counts, data: int) -> Counts:
        """Counts of an epoch as saved with `data` places, given those of here."""
        return _abstract((data, *counts.shape[1:]), counts.dtype, replicated(self.mesh))

    def moved(self, counts: Counts) -> Counts:
        """Counts of another number of places: all are given to the first; their sum is all that is used."""
        here = self.mesh.shape[DATA]
        return jax.jit(
            lambda a: jnp.zeros((here, *a.shape[1:]), a.dtype).at[0].set(a.sum(axis=0, dtype=a.dtype)),
            out_shardings=self.shardings(),
        )(counts)

    def moved_kept(self, kept: Counts, pairs: PairWeights) -> tuple[Counts, PairWeights]:
        """What was restored, as it is kept here."""
        return np.asarray(kept), np.asarray(pairs)


@dataclasses.dataclass(frozen=True)
class ByRow:
    """One matrix whose rows are split over "data", a few rows of no class at its end."""

    mesh: Mesh
    num_classes: int
    name = "by_row"
    whole_pairs = False

    def _rows(self, data: int) -> int:
        step = math.lcm(_ROWS, data)
        return -(-self.num_classes // step) * step

    def _zeros(self, dtype: Any) -> jax.Array:
        return jnp.zeros((self._rows(self.mesh.shape[DATA]), self.num_classes), dtype)

    def empty(self, dtype: Any) -> Counts:
        """Counts of no image."""
        return self._zeros(dtype)

    def shardings(self) -> Any:
        """Of the counts: columns lie where those of the logits do."""
        return NamedSharding(self.mesh, PartitionSpec(DATA, MODEL))

    def add(self, counts: Counts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool) -> Counts:
        """Every device sees the predictions of all rows and adds those of its own classes."""
        labels = gather_rows(self.mesh, jnp.where(batch["mask"], batch["label"], -1))
        predictions = _predictions(logits, soft)
        matrix, whole = self.shardings().spec, PartitionSpec()
        if not soft:
            predictions = gather_rows(self.mesh, predictions)

        @functools.partial(
            jax.shard_map,
            mesh=self.mesh,
            in_specs=(matrix, whole, matrix if soft else whole),
            out_specs=matrix,
        )
        def add(counts, labels, predictions):
            rows, columns = counts.shape
            if soft:
                predictions = jax.lax.all_gather(predictions, DATA, tiled=True)
            else:
                predictions = predictions - jax.lax.axis_index(MODEL) * columns
            return confusion.update(counts, labels - jax.lax.axis_index(DATA) * rows, predictions)

        return add(counts, labels, predictions)

    def total(self, counts: Counts) -> Counts:
        """Counts of all devices: they are, where they lie."""
        return counts

    def nothing(self) -> Counts:
        """What is kept over epochs before the first: float32, on the devices."""
        return jax.jit(lambda: self._zeros(jnp.float32), out_shardings=by_row(self.mesh))()

    def keep(self, kept: Counts, decay: float, total: Counts) -> Counts:
        """What is kept, with decay, and an epoch's counts."""
        return compiled(_decayed_sum, by_row(self.mesh))(kept, decay, total)

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights as the step takes them."""
        return jax.device_put(pairs, by_row(self.mesh))

    def draw(self, keys: jax.Array, labels: jax.Array, pairs: PairWeights, *, num_triplets: int) -> Triplets:
        """Triplets of each microbatch; devices exchange the weights among the batch's classes alone."""
        whole = PartitionSpec()
        draw = functools.partial(_draw, num_triplets=num_triplets, rows_axis=DATA)
        return jax.shard_map(
            draw, mesh=self.mesh, in_specs=(whole, whole, PartitionSpec(DATA)), out_specs=whole
        )(keys, labels, pairs)

    def abstract_kept(self, data: int) -> tuple[Counts, PairWeights]:
        """What is kept and the pair weights, as saved with `data` places, for a restore here."""
        matrix = _abstract((self._rows(data), self.num_classes), np.float32, self._fitting(self._rows(data)))
        return matrix, matrix

    def abstract_total(self) -> Counts:
        """What `total` makes on each device: nothing."""
        return ()

    def abstract_saved(self, counts: Counts, data: int) -> Counts:
        """Counts of an epoch as saved with `data` places, given those of here."""
        rows = self._rows(data)
        return _abstract((rows, self.num_classes), counts.dtype, self._fitting(rows))

    def _fitting(self, rows: int) -> NamedSharding:
        return by_row(self.mesh) if rows % self.mesh.shape[DATA] == 0 else replicated(self.mesh)

    def moved(self, counts: Counts) -> Counts:
        """Counts of another number of places."""
        return self._moved(counts, self.shardings())

    def moved_kept(self, kept: Counts, pairs: PairWeights) -> tuple[Counts, PairWeights]:
        """What was restored, as it is kept here."""
        return self._moved(kept, by_row(self.mesh)), self._moved(pairs, by_row(self.mesh))

    def _moved(self, matrix: jax.Array, sharding: NamedSharding) -> jax.Array:
        added = self._rows(self.mesh.shape[DATA]) - self.num_classes

        def refit(matrix):
            return jnp.pad(matrix[: self.num_classes], ((0, added), (0, 0)))

        return jax.jit(refit, out_shardings=sharding)(matrix)


@dataclasses.dataclass(frozen=True)
class Top:
    """`TopConfusions` of K counters a class for each place on "data"."""

    mesh: Mesh
    num_classes: int
    k: int
    name = "top"
    whole_pairs = False

    def empty(self, dtype: Any) -> Counts:
        """Counts of no image, "data" first in every leaf."""
        one = top_confusions.init_top(self.num_classes, self.k, dtype)
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (self.mesh.shape[DATA], *a.shape)), one)

    def shardings(self) -> Any:
        """Of the leaves of the counts."""
        return TopConfusions(*(by_row(self.mesh),) * 4)

    def add(self, counts: Counts, batch: dict[str, jax.Array], logits: jax.Array, *, soft: bool) -> Counts:
        """Each device adds its own rows to its own counters: nothing crosses devices."""
        rows = PartitionSpec(DATA)

        @functools.partial(jax.shard_map, mesh=self.mesh, in_specs=(rows,) * 4, out_specs=rows)
        def add(counts, labels, logits, mask):
            own = jax.tree.map(lambda a: a[0], counts)
            own = confusion.update(own, labels, _predictions(logits, soft), where=mask)
            return jax.tree.map(lambda a: a[None], own)

        return add(counts, batch["label"], logits, batch["mask"])

    def total(self, counts: Counts) -> Counts:
        """Counters of all devices merged, on the host."""
        merge = compiled(_merge_counters, replicated(self.mesh), ("mesh",))
        return jax.tree.map(np.asarray, merge(counts, mesh=self.mesh))

    def nothing(self) -> Counts:
        """What is kept over epochs before the first: float32."""
        none = top_confusions.init_top(self.num_classes, self.k, jnp.float32)
        return jax.tree.map(np.asarray, none)

    def keep(self, kept: Counts, decay: float, total: Counts) -> Counts:
        """What is kept, with decay, and an epoch's counts, merged."""
        return jax.tree.map(np.asarray, _merge_decayed(kept, decay, total))

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights as the step takes them."""
        return put_replicated(self.mesh, pairs)

    def draw(self, keys: jax.Array, labels: jax.Array, pairs: PairWeights, *, num_triplets: int) -> Triplets:
        """Triplets of each microbatch."""
        return _draw(keys, labels, pairs, num_triplets=num_triplets)

    def abstract_kept(self, data: int) -> tuple[Counts, PairWeights]:
        """What is kept and the pair weights, as saved with `data` places, for a restore here."""
        whole, classes = replicated(self.mesh), self.num_classes
        indices = _abstract((classes, self.k), np.int32, whole)
        values = _abstract((classes, self.k), np.float32, whole)
        each = _abstract((classes,), np.float32, whole)
        return TopConfusions(indices, values, each, each), TopPairWeights(indices, values, each)

    def abstract_total(self) -> Counts:
        """What `total` makes on each device."""
        return self.abstract_kept(self.mesh.shape[DATA])[0]

    def abstract_saved(self, counts: Counts, data: int) -> Counts:
        """Counts of an epoch as saved with `data` places, given those of here."""
        return jax.tree.map(lambda a: _abstract((data, *a.shape[1:]), a.dtype, replicated(self.mesh)), counts)

    def moved(self, counts: Counts) -> Counts:
        """Counters of another number of places: merged, and given to the first."""

        def first_of(counts):
            merged = top_confusions.merge_stacked(counts)
            return jax.tree.map(lambda empty, a: empty.at[0].set(a), self.empty(merged.values.dtype), merged)

        return jax.jit(first_of, out_shardings=self.shardings())(counts)

    def moved_kept(self, kept: Counts, pairs: PairWeights) -> tuple[Counts, PairWeights]:
        """What was restored, as it is kept here."""
        return jax.tree.map(np.asarray, kept), jax.tree.map(np.asarray, pairs)


Storage = Dense | ByRow | Top


@functools.cache
def compiled(function: Any, out_shardings: Any, static_argnames: tuple[str, ...] = ()) -> Any:
    """`function`, of a module, compiled once with its results placed so, as several hosts must have them."""
    return jax.jit(function, out_shardings=out_shardings, static_argnames=static_argnames)


def to_host(matrix: Any) -> np.ndarray:
    """A matrix whose rows may lie on several hosts, on this one; no device holds it whole."""
    if not isinstance(matrix, jax.Array) or matrix.is_fully_addressable:
        return np.asarray(matrix)
    sharding: Any = matrix.sharding
    rows = sharding.shard_shape(matrix.shape)[0]
    take = jax.jit(
        lambda a, begin: jax.lax.dynamic_slice_in_dim(a, begin, rows), out_shardings=replicated(sharding.mesh)
    )
    parts = (take(matrix, np.int32(begin)) for begin in range(0, matrix.shape[0], rows))
    return np.concatenate([np.asarray(part) for part in parts])


def _abstract(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _predictions(logits: jax.Array, soft: bool) -> jax.Array:
    return jax.nn.softmax(logits) if soft else jnp.argmax(logits, axis=1)


def _draw(keys, labels, pairs, *, num_triplets, rows_axis=None) -> Triplets:
    def draw(key, labels):
        return sample_triplets(
            key, labels, pairs, num_triplets=num_triplets, where=labels >= 0, rows_axis=rows_axis
        )

    return jax.vmap(draw)(keys, labels)


@functools.partial(jax.jit, static_argnames="mesh")
def _sum_matrices(counts: jax.Array, *, mesh: Mesh) -> jax.Array:
    """On every device: once an epoch, the only C x C reduction."""
    return jax.lax.with_sharding_constraint(counts.sum(axis=0), replicated(mesh))


def _decayed_sum(kept: jax.Array, decay: jax.Array, total: jax.Array) -> jax.Array:
    return decay * kept + total.astype(jnp.float32)


def _merge_counters(counts: TopConfusions, *, mesh: Mesh) -> TopConfusions:
    def merge(counts):
        return top_confusions.reduce_top(jax.tree.map(lambda a: a[0], counts), DATA)

    merge = jax.shard_map(merge, mesh=mesh, in_specs=PartitionSpec(DATA), out_specs=PartitionSpec())
    return merge(counts)


@jax.jit
def _merge_decayed(kept: TopConfusions, decay: jax.Array, total: TopConfusions) -> TopConfusions:
    return top_confusions.merge(
        top_confusions.decayed(kept, decay), top_confusions.decayed(total, jnp.float32(1))
    )
