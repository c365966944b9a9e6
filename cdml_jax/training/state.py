"""What a run carries from step to step, as one tree of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, Sharding

from cdml_jax.confusion import PairWeights
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods.structure import PLAIN, Structure
from cdml_jax.training.averages import Average
from cdml_jax.training.storage import EpochCounts, Storage, empty_record, ranked

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PRNGKeyArray

Tree = Any
HostOrDevice = Any  # numpy on the host, jax on the devices


class Costs(NamedTuple):
    """What an epoch's steps are given, as data: one compiled step serves all methods, epochs and seeds."""

    class_weights: HostOrDevice  # (C,) float32
    pair_weights: PairWeights  # as the storage keeps them
    triplet_weight: HostOrDevice  # λ, () float32
    focal_gamma: HostOrDevice  # () float32
    pair_beta: HostOrDevice  # β of the confusion-weighted logits, () float32
    miner: HostOrDevice  # place in `MINERS`, () int32
    watched_pairs: HostOrDevice  # (pairs, 2) int32: class pairs whose share of the triplets is logged
    terms: dict[str, HostOrDevice]  # λ of each term of the structure, () float32
    # Share of the images that is left out, () float32, below 0 where none is looked at; None where the
    # structure drops none.
    dropped: HostOrDevice = None


def abstract_costs(storage: Storage, watched: int, sharding: Sharding, structure: Structure = PLAIN) -> Costs:
    """Shapes, dtypes and shardings of an epoch's costs, for a compilation without any."""

    def array(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    return Costs(
        class_weights=array((storage.num_classes,)),
        pair_weights=storage.abstract_pairs(),
        triplet_weight=array(()),
        focal_gamma=array(()),
        pair_beta=array(()),
        miner=array((), jnp.int32),
        watched_pairs=array((watched, 2), jnp.int32),
        terms={term.name: array(()) for term in structure.terms},
        dropped=array(()) if structure.dropping else None,
    )


class TrainState(NamedTuple):
    """Everything that a step reads and writes."""

    step: Int[Array, ""]
    key: PRNGKeyArray
    parameters: Tree
    batch_statistics: Tree
    optimizer: Tree
    averages: Tree  # moving averages of (parameters, batch_statistics); () where none are kept
    counts: EpochCounts  # this epoch's, as the storage keeps them, not yet summed over "data"
    metrics: dict[str, Average]
    first_bad_step: Int[Array, ""]  # of the first loss that was not finite; the largest integer if none
    images: Tree = ()  # `ImageRecord`, what is remembered of each training image; () where nothing is

    @property
    def in_use(self) -> tuple[Tree, Tree]:
        """Parameters and batch statistics as the model is used: the averages, where they are kept."""
        return self.averages or (self.parameters, self.batch_statistics)


NO_STEP = 2**31 - 1


def empty_metrics(watched: int, dtype: Any = jnp.float32, structure: Structure = PLAIN) -> dict[str, Average]:
    """Metrics of no step, in the parameters' type; the names are those of the log."""
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
        *(f"{term.name}_loss" for term in structure.terms),
        *(("dropped_share",) if structure.dropping else ()),
    )
    zero, zeros = jnp.zeros((), dtype), jnp.zeros(watched, dtype)
    return dict.fromkeys(names, Average(zero, zero)) | {"watched_share": Average(zeros, zeros)}


def split_model(model: nnx.Module) -> tuple[nnx.GraphDef, Tree, Tree]:
    """Graph, parameters and batch statistics of a model, as plain arrays."""
    graph, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)  # type: ignore[misc]
    return graph, nnx.as_pure(parameters), nnx.as_pure(statistics)


def make_initializer(
    build_model: Any,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    storage: Storage,
    soft_counts: bool,
    ema: bool,
    watched: int,
    structure: Structure = PLAIN,
    images: int = 0,
    shard_parameters_from: int = 0,
) -> tuple[nnx.GraphDef, Any, TrainState]:
    """Graph of the model, a jitted `init(seed) -> TrainState`, and the sharding of its leaves."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: build_model(rngs=nnx.Rngs(0))))
    dtype = jnp.float32 if soft_counts else jnp.int32

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
            counts=storage.empty(dtype),
            metrics=empty_metrics(watched, jnp.result_type(*jax.tree.leaves(parameters)), structure),
            first_bad_step=jnp.int32(NO_STEP),
            images=empty_record(images, storage.num_classes) if structure.dropping else (),
        )

    shapes = jax.eval_shape(init, jax.ShapeDtypeStruct((), jnp.uint32))
    shardings = jax.tree.map(lambda _: mesh_lib.replicated(mesh), shapes)
    parameters = mesh_lib.of_parameters(mesh, shapes.parameters, shard_parameters_from=shard_parameters_from)
    shardings = shardings._replace(
        parameters=parameters,
        optimizer=mesh_lib.of_optimizer(mesh, shapes.optimizer, shapes.parameters, parameters),
        averages=(parameters, shardings.batch_statistics) if ema else (),
        counts=storage.shardings(),
    )
    # Called once: what the compiler saves on a CPU by optimising less is 70 times what the call then takes.
    quick = {"xla_backend_optimization_level": 1} if mesh.devices.flat[0].platform == "cpu" else None
    return graph, jax.jit(init, out_shardings=shardings, compiler_options=quick), shardings


def abstract_state(init: Any, shardings: Any) -> TrainState:
    """Shapes, dtypes and shardings of a state, for a restore without making one."""
    shapes = jax.eval_shape(init, jax.ShapeDtypeStruct((), jnp.uint32))
    return jax.tree.map(lambda s, h: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=h), shapes, shardings)


def begin_epoch(state: TrainState, *, storage: Storage) -> TrainState:
    """State with this epoch's counts and metrics set back to nothing, and the images ranked."""
    dtype = jax.tree.leaves(state.counts)[-1].dtype
    return state._replace(
        counts=storage.empty(dtype),
        metrics=jax.tree.map(jnp.zeros_like, state.metrics),
        images=ranked(state.images) if state.images else (),
    )
