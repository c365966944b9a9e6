"""What the storages share: their place, predictions, triplets of microbatches, pairs on every device."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from cdml_jax.confusion import PairWeights
from cdml_jax.distributed.mesh import DATA, put_replicated, replicated
from cdml_jax.sampling.triplets import Drawn, Sample

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Placed:
    """A storage of the counts of `num_classes` classes on a mesh."""

    mesh: Mesh
    num_classes: int

    @property
    def places(self) -> int:
        """Number of places on "data"."""
        return self.mesh.shape[DATA]


class PairsOnEveryDevice(Placed):
    """A storage whose pair weights are the same arrays on every device, and on the host between epochs."""

    def put_pairs(self, pairs: PairWeights) -> PairWeights:
        """Pair weights as the step takes them."""
        return put_replicated(self.mesh, pairs)

    def draw(
        self, keys: jax.Array, labels: Int[Array, "parts rows"], pairs: PairWeights, sample: Sample[Drawn]
    ) -> Drawn:
        """What `sample` draws of each microbatch of whole labels, −1 where a row does not count."""
        return draw_parts(keys, labels, pairs, sample)


def abstract(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """An array that is not there yet, and where it will lie."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def predictions_of(logits: Float[Array, "batch classes"], soft: bool) -> jax.Array:
    """What counts of a batch add: probabilities (B, C) if soft, else classes (B,)."""
    return jax.nn.softmax(logits) if soft else jnp.argmax(logits, axis=1)


@functools.partial(jax.jit, static_argnames="mesh")
def sum_of_places(counts: Any, *, mesh: Mesh) -> Any:
    """Counts of all places on "data", the first axis of every leaf, on every device: once an epoch."""
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a.sum(axis=0), replicated(mesh)), counts)


def draw_parts(
    keys: jax.Array, labels: Int[Array, "parts rows"], pairs: PairWeights, sample: Sample[Drawn]
) -> Drawn:
    """What `sample` draws of each microbatch, by a key for each; a row of label −1 does not count."""

    def draw(key: jax.Array, labels: jax.Array) -> Drawn:
        return sample(key, labels, pairs, where=labels >= 0)

    if len(labels) == 1:  # the same numbers; of one microbatch, vmap makes a hundred operations more on a TPU
        return jax.tree.map(lambda leaf: leaf[None], draw(keys[0], labels[0]))
    return jax.vmap(draw)(keys, labels)
