"""What a run carries from step to step, as one tree of arrays."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from cdml_jax import confusion
from cdml_jax.metrics import Average, average
from cdml_jax.training import mesh as mesh_lib

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

Tree = Any
HostOrDevice = Any  # numpy on the host, jax on the devices


class Costs(NamedTuple):
    """What an epoch's steps are told, as data: one compiled step serves all rows, epochs and seeds."""

    class_weights: HostOrDevice  # (C,) float32
    pair_weights: HostOrDevice  # (C, C) float32
    triplet_weight: HostOrDevice  # λ, () float32
    focal_gamma: HostOrDevice  # () float32
    batch_hard: HostOrDevice  # () bool
    watched_pairs: HostOrDevice  # (pairs, 2) int32: class pairs whose share of the triplets is logged


class TrainState(NamedTuple):
    """Everything that a step reads and writes."""

    step: Int[Array, ""]
    key: PRNGKeyArray
    parameters: Tree
    batch_statistics: Tree
    optimizer: Tree
    averages: Tree  # moving averages of (parameters, batch_statistics); () where none are kept
    counts: Num[Array, "data classes classes"]  # this epoch's, not yet summed over "data"
    metrics: dict[str, Average]
    first_bad_step: Int[Array, ""]  # of the first loss that was not finite; the largest integer if none

    @property
    def in_use(self) -> tuple[Tree, Tree]:
        """Parameters and batch statistics as the model is used: the averages, where they are kept."""
        return self.averages or (self.parameters, self.batch_statistics)


NO_STEP = 2**31 - 1


def empty_metrics(watched: int) -> dict[str, Average]:
    """Metrics of no step; the names are those of the log."""
    names = (
        "loss",
        "softmax_loss",
        "triplet_loss",
        "accuracy",
        "active_share",
        "positive_distance",
        "negative_distance",
        "valid_share",
        "gradient_norm",
    )
    zero = average(0, 0)
    return dict.fromkeys(names, zero) | {
        "watched_share": Average(jnp.zeros(watched, jnp.float32), jnp.zeros(watched, jnp.float32))
    }


def empty_counts(data: int, num_classes: int, *, soft: bool) -> Num[Array, "data classes classes"]:
    """Counts of no image, one matrix for each place on the mesh's "data" axis."""
    one = confusion.init(num_classes, jnp.float32 if soft else jnp.int32)
    return jnp.broadcast_to(one, (data, num_classes, num_classes))


def split_model(model: nnx.Module) -> tuple[nnx.GraphDef, Tree, Tree]:
    """Graph, parameters and batch statistics of a model, as plain arrays."""
    graph, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)  # type: ignore[misc]
    return graph, nnx.as_pure(parameters), nnx.as_pure(statistics)


def make_initializer(
    build_model: Any,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    num_classes: int,
    soft_counts: bool,
    ema: bool,
    watched: int,
    shard_parameters_from: int = 0,
) -> tuple[nnx.GraphDef, Any, TrainState]:
    """Graph of the model, a jitted `init(seed) -> TrainState`, and the sharding of its leaves."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: build_model(rngs=nnx.Rngs(0))))
    data = mesh.shape[mesh_lib.DATA]

    def init(seed: jax.Array) -> TrainState:
        key = jax.random.key(seed)
        key_model, key_run = jax.random.split(key)
        _, parameters, statistics = split_model(build_model(rngs=nnx.Rngs(key_model)))
        return TrainState(
            step=jnp.int32(0),
            key=key_run,
            parameters=parameters,
            batch_statistics=statistics,
            optimizer=optimizer.init(parameters),
            averages=jax.tree.map(jnp.array, (parameters, statistics)) if ema else (),
            counts=empty_counts(data, num_classes, soft=soft_counts),
            metrics=empty_metrics(watched),
            first_bad_step=jnp.int32(NO_STEP),
        )

    shapes = jax.eval_shape(init, jax.ShapeDtypeStruct((), jnp.uint32))
    shardings = jax.tree.map(lambda _: mesh_lib.replicated(mesh), shapes)
    parameters = mesh_lib.of_parameters(mesh, shapes.parameters, shard_parameters_from=shard_parameters_from)
    shardings = shardings._replace(
        parameters=parameters,
        optimizer=mesh_lib.of_optimizer(mesh, shapes.optimizer, shapes.parameters, parameters),
        averages=(parameters, shardings.batch_statistics) if ema else (),
        counts=mesh_lib.of_counts(mesh),
    )
    return graph, jax.jit(init, out_shardings=shardings), shardings


def abstract_state(init: Any, shardings: Any) -> TrainState:
    """Shapes, dtypes and shardings of a state, for a restore without making one."""
    shapes = jax.eval_shape(init, jax.ShapeDtypeStruct((), jnp.uint32))
    return jax.tree.map(lambda s, h: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=h), shapes, shardings)


def begin_epoch(state: TrainState) -> TrainState:
    """State with this epoch's counts and metrics set back to nothing."""
    return state._replace(
        counts=jnp.zeros_like(state.counts), metrics=jax.tree.map(jnp.zeros_like, state.metrics)
    )


@functools.partial(jax.jit, static_argnames="mesh")
def sum_counts(counts: Num[Array, "data classes classes"], *, mesh: Mesh) -> Float[Array, "classes classes"]:
    """Counts of all devices, float32 if soft, on every device: once an epoch, the only C x C reduction."""
    return jax.lax.with_sharding_constraint(counts.sum(axis=0), mesh_lib.replicated(mesh))
