"""The training step and the evaluation step: pure functions of arrays, bound by `functools.partial`."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from cdml_jax import confusion
from cdml_jax.controls import batch_hard_triplets, focal_factor
from cdml_jax.losses import squared_distance, triplet_margin_loss, weighted_softmax_cross_entropy
from cdml_jax.metrics import Average, average, merge
from cdml_jax.sampling import Triplets, sample_triplets
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.state import NO_STEP, Costs, TrainState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num, UInt8

Batch = dict[str, jax.Array]  # image (B, H, W, 3) uint8, label (B,), mask (B,)

_TRIPLETS = 1  # purpose of a key folded from (seed, purpose, step)


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What is fixed for all rows of a table, and so part of the compiled step."""

    num_triplets: int  # of a whole batch
    margin: float
    label_smoothing: float
    accumulation: int
    soft_counts: bool
    ema_decay: float


def normalize_images(images: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Bytes to [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


class _Sums(NamedTuple):
    """What a microbatch adds up; the division comes last, over the whole batch."""

    softmax: jax.Array
    triplet: jax.Array
    active: jax.Array
    positive: jax.Array
    negative: jax.Array


def _triplet_sums(
    embeddings: jax.Array, triplets: Triplets, *, margin: float, mesh: Mesh
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Sums over the valid triplets of loss, active ones, distance to positives and to negatives.

    Each device gathers the embeddings once and computes its share of the triplets; gradients go back by one
    reduce-scatter.
    """
    rows, whole = PartitionSpec(mesh_lib.DATA), PartitionSpec()

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(rows, rows), out_specs=whole)
    def sums(embeddings, triplets):
        embeddings = jax.lax.all_gather(embeddings, mesh_lib.DATA, tiled=True)
        anchor, positive, negative = (embeddings[index] for index in triplets[:3])
        losses = triplet_margin_loss(anchor, positive, negative, margin=margin)
        parts = (losses, losses > 0, squared_distance(anchor, positive), squared_distance(anchor, negative))
        sums = [jnp.where(triplets.valid, part, 0).astype(losses.dtype).sum() for part in parts]
        return jax.lax.psum(tuple(sums), mesh_lib.DATA)

    return sums(embeddings, triplets)


def _choose_triplets(
    key: jax.Array, labels: jax.Array, mask: jax.Array, costs: Costs, number: int, mesh: Mesh
) -> Triplets:
    """Triplets by confusion, from replicated labels: the draw does not depend on the number of devices."""
    whole = mesh_lib.replicated(mesh)
    labels, mask = jax.lax.with_sharding_constraint((labels, mask), whole)
    return sample_triplets(key, labels, costs.pair_weights, num_triplets=number, where=mask)


def train_step(
    state: TrainState,
    batch: Batch,
    costs: Costs,
    *,
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    mesh: Mesh,
) -> TrainState:
    r"""State after one step on the joint objective, with its counts and metrics.

    .. math:: L = \frac{\sum_b m_b w_{y_b} \ell_b}{\sum_b m_b} + \lambda \frac{\sum_t v_t \ell_t}{\sum_t v_t}

    Args:
      state: as `make_initializer` gives; donate it.
      batch: `image` (B, H, W, 3) uint8, `label` (B,) integers, `mask` (B,) bool, split over the devices.
      costs: weights of this epoch, replicated.
      graph, optimizer, settings, mesh: bound once; they are the compiled part.

    Source: Zhao and Peng (2018), joint objective.
    """
    parts = settings.accumulation
    micro = jax.tree.map(lambda a: _split(a, parts), batch)
    key = jax.random.fold_in(jax.random.fold_in(state.key, _TRIPLETS), state.step)
    number = settings.num_triplets // parts
    drawn = jax.vmap(lambda k, y, m: _choose_triplets(k, y, m, costs, number, mesh))(
        jax.random.split(key, parts), micro["label"], micro["mask"]
    )
    real = jnp.maximum(batch["mask"].sum(dtype=jnp.int32), 1).astype(jnp.float32)

    def micro_loss(parameters, statistics, rows, triplets, valid):
        model = nnx.merge(graph, parameters, statistics)
        logits, embeddings = model(normalize_images(rows["image"]), train=True)
        labels, mask = rows["label"], rows["mask"]
        ones = jnp.ones_like(costs.class_weights)
        plain = weighted_softmax_cross_entropy(logits, labels, ones, where=mask)
        softmax = weighted_softmax_cross_entropy(
            logits, labels, costs.class_weights, label_smoothing=settings.label_smoothing, where=mask
        )
        softmax = (softmax * focal_factor(plain, costs.focal_gamma)).sum()
        triplets = jax.lax.cond(
            costs.batch_hard,
            lambda: batch_hard_triplets(embeddings, labels, num_triplets=number, where=mask),
            lambda: triplets,
        )
        sums = _Sums(softmax, *_triplet_sums(embeddings, triplets, margin=settings.margin, mesh=mesh))
        loss = sums.softmax / real + costs.triplet_weight * sums.triplet / valid
        statistics = nnx.as_pure(nnx.state(model, nnx.BatchStat))
        return loss, (statistics, sums, logits, triplets)

    # Which triplets are valid depends on labels alone, so the divisor is known before any microbatch.
    valid = jax.lax.cond(
        costs.batch_hard,
        lambda: jax.vmap(
            lambda y, m: batch_hard_triplets(jnp.zeros((y.size, 1)), y, num_triplets=number, where=m).valid
        )(micro["label"], micro["mask"]),
        lambda: drawn.valid,
    )
    valid = jnp.maximum(valid.sum(dtype=jnp.int32), 1).astype(jnp.float32)

    gradient_of = jax.value_and_grad(micro_loss, has_aux=True)

    def accumulate(carry, rows_and_triplets):
        statistics, gradients = carry
        rows, triplets = rows_and_triplets
        (_, (statistics, *aux)), added = gradient_of(state.parameters, statistics, rows, triplets, valid)
        return (statistics, jax.tree.map(jnp.add, gradients, added)), aux

    if parts == 1:
        first = jax.tree.map(lambda a: a[0], (micro, drawn))
        (_, (statistics, *aux)), gradients = gradient_of(
            state.parameters, state.batch_statistics, *first, valid
        )
        aux = jax.tree.map(lambda a: a[None], aux)
    else:
        zeros = jax.tree.map(jnp.zeros_like, state.parameters)
        (statistics, gradients), aux = jax.lax.scan(
            accumulate, (state.batch_statistics, zeros), (micro, drawn)
        )
    sums, logits, triplets = aux
    sums = jax.tree.map(lambda a: a.sum(axis=0), sums)
    loss = sums.softmax / real + costs.triplet_weight * sums.triplet / valid
    logits = _join(logits)

    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    averages = state.averages
    if averages:
        averages = optax.incremental_update((parameters, statistics), averages, 1 - settings.ema_decay)
    metrics = _step_metrics(batch, costs, sums, logits, triplets, micro["label"], loss, real, gradients)
    return TrainState(
        step=state.step + 1,
        key=state.key,
        parameters=parameters,
        batch_statistics=statistics,
        optimizer=optimizer_state,
        averages=averages,
        counts=_add_counts(state.counts, batch, logits, soft=settings.soft_counts),
        metrics=merge(state.metrics, metrics),
        first_bad_step=jnp.minimum(
            state.first_bad_step, jnp.where(jnp.isfinite(loss), NO_STEP, state.step)
        ).astype(jnp.int32),
    )


def _split(rows: jax.Array, parts: int) -> jax.Array:
    """(B, …) to (parts, B / parts, …), every part taking every parts-th row: no row changes device."""
    return rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:]).swapaxes(0, 1)


def _join(rows: jax.Array) -> jax.Array:
    return rows.swapaxes(0, 1).reshape(-1, *rows.shape[2:])


def _add_counts(
    counts: Num[Array, "devices classes classes"], batch: Batch, logits: jax.Array, *, soft: bool
) -> Num[Array, "devices classes classes"]:
    """Each device adds its own rows to its own counts: nothing crosses devices."""
    devices = counts.shape[0]
    rows = jax.tree.map(
        lambda a: a.reshape(devices, -1, *a.shape[1:]), (batch["label"], logits, batch["mask"])
    )

    def add(counts, labels, logits, mask):
        predictions = jax.nn.softmax(logits) if soft else jnp.argmax(logits, axis=1)
        return confusion.update(counts, labels, predictions, where=mask)

    return jax.vmap(add)(counts, *rows)


def _step_metrics(batch, costs, sums, logits, triplets, labels, loss, real, gradients) -> dict[str, Average]:
    correct = (jnp.argmax(logits, axis=1) == batch["label"]) & batch["mask"]
    number = triplets.valid.sum()
    anchors = jax.vmap(lambda y, rows: y[rows])(labels, triplets.anchor)
    negatives = jax.vmap(lambda y, rows: y[rows])(labels, triplets.negative)
    watched = (anchors[..., None] == costs.watched_pairs[:, 0]) & (
        negatives[..., None] == costs.watched_pairs[:, 1]
    )
    watched = (watched & triplets.valid[..., None]).sum(axis=(0, 1))
    return {
        "loss": average(loss, 1),
        "softmax_loss": average(sums.softmax, real),
        "triplet_loss": average(sums.triplet, number),
        "accuracy": average(correct.sum(), real),
        "active_share": average(sums.active, number),
        "positive_distance": average(sums.positive, number),
        "negative_distance": average(sums.negative, number),
        "valid_share": average(number, triplets.valid.size),
        "gradient_norm": average(optax.tree.norm(gradients), 1),
        "watched_share": average(watched, jnp.broadcast_to(number, watched.shape)),
    }


def evaluation_step(
    counts: tuple[Num[Array, "devices classes classes"], Float[Array, "devices classes classes"]],
    parameters: Any,
    statistics: Any,
    batch: Batch,
    *,
    graph: nnx.GraphDef,
) -> tuple[Num[Array, "devices classes classes"], Float[Array, "devices classes classes"]]:
    """Hard and soft counts with a batch added, by the model as it is used: running statistics, no dropout."""
    model = nnx.merge(graph, parameters, statistics)
    logits, _ = model(normalize_images(batch["image"]), train=False)
    hard, soft = counts
    return _add_counts(hard, batch, logits, soft=False), _add_counts(soft, batch, logits, soft=True)
