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

from cdml_jax.controls import batch_hard_triplets, focal_factor, semi_hard_triplets
from cdml_jax.losses import (
    confusion_weighted_logits,
    squared_distance,
    triplet_margin_loss,
    weighted_softmax_cross_entropy,
)
from cdml_jax.models.heads import Outputs
from cdml_jax.models.network import Network
from cdml_jax.sampling import Triplets
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.averages import average, merge
from cdml_jax.training.state import NO_STEP, Costs, TrainState
from cdml_jax.training.storage import EpochCounts, Storage

if TYPE_CHECKING:
    from jaxtyping import Array, Float, UInt8

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
    cut: int | None = (
        None  # blocks of the network that are not trained; the batch holds what comes after them
    )


def normalize_images(images: UInt8[Array, "*shape"], dtype: Any = jnp.float32) -> Float[Array, "*shape"]:
    """Bytes to [-1, 1]."""
    return images.astype(dtype) / 127.5 - 1


def forward(model: Network, images: jax.Array, *, cut: int | None, train: bool) -> Outputs:
    """What the network says of images as bytes or, behind a cut, of what its front gave."""
    if cut is None:
        dtype = jnp.result_type(*jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.Param))))
        return model(normalize_images(images, dtype), train=train)
    return model.back(images, cut, train=train)


class _Sums(NamedTuple):
    """What a microbatch adds up; the division comes last, over the whole batch."""

    softmax: jax.Array
    triplet: jax.Array
    active: jax.Array
    positive: jax.Array
    negative: jax.Array
    watched: jax.Array  # (pairs,): triplets of each watched pair


def _triplet_sums(
    embeddings: jax.Array, labels: jax.Array, drawn: Triplets, costs: Costs, *, margin: float, mesh: Mesh
) -> tuple[jax.Array, ...]:
    """Sums over the valid triplets of loss, active ones, distance to positives, to negatives, watched pairs.

    Each device gathers the embeddings once and computes its share of the triplets; gradients go back by one
    reduce-scatter. `labels` are whole, -1 where a row does not count.
    """
    rows, whole = PartitionSpec(mesh_lib.DATA), PartitionSpec()
    number = drawn.valid.size
    share = number // mesh.shape[mesh_lib.DATA]

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(rows, whole, whole, whole, whole), out_specs=whole)
    def sums(embeddings, labels, drawn, mining, watched_pairs):
        embeddings = jax.lax.all_gather(embeddings, mesh_lib.DATA, tiled=True)
        first = jax.lax.axis_index(mesh_lib.DATA) * share

        def own(triplets):
            return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, share), triplets)

        def mined(mine):
            return lambda: own(mine(embeddings, labels, num_triplets=number, where=labels >= 0))

        triplets = jax.lax.switch(
            mining, (lambda: own(drawn), mined(batch_hard_triplets), mined(semi_hard_triplets))
        )
        anchor, positive, negative = (embeddings[index] for index in triplets[:3])
        losses = triplet_margin_loss(anchor, positive, negative, margin=margin)
        parts = (losses, losses > 0, squared_distance(anchor, positive), squared_distance(anchor, negative))
        sums = [jnp.where(triplets.valid, part, 0).astype(losses.dtype).sum() for part in parts]
        classes = jnp.stack([labels[triplets.anchor], labels[triplets.negative]], axis=1)
        watched = (classes[:, None] == watched_pairs).all(axis=2) & triplets.valid[:, None]
        return jax.lax.psum((*sums, watched.sum(axis=0, dtype=losses.dtype)), mesh_lib.DATA)

    return sums(embeddings, labels, drawn, costs.mining, costs.watched_pairs)


def _number_valid(labels: jax.Array, drawn: Triplets, costs: Costs) -> jax.Array:
    """How many triplets of all microbatches are valid: known from labels (parts, B / parts) alone."""

    def hardest(labels):
        nowhere = jnp.zeros((labels.size, 1))
        return batch_hard_triplets(
            nowhere, labels, num_triplets=drawn.valid.shape[1], where=labels >= 0
        ).valid

    # Both kinds of mining find a triplet for the same anchors.
    valid = jax.lax.cond(costs.mining > 0, lambda: jax.vmap(hardest)(labels), lambda: drawn.valid)
    return valid.sum(dtype=jnp.int32)


def train_step(
    state: TrainState,
    batch: Batch,
    costs: Costs,
    *,
    graph: nnx.GraphDef[Network],
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    mesh: Mesh,
    shardings: Any,
    storage: Storage,
) -> TrainState:
    r"""State after one step on the joint objective, with its counts and metrics.

    .. math:: L = \frac{\sum_b m_b w_{y_b} \ell_b}{\sum_b m_b} + \lambda \frac{\sum_t v_t \ell_t}{\sum_t v_t}

    Args:
      state: as `make_initializer` gives; donate it.
      batch: `image` (B, H, W, 3) uint8, `label` (B,) integers, `mask` (B,) bool, split over "data".
      costs: weights of this epoch, replicated but for pair weights that are split by row.
      graph, optimizer, settings, mesh, shardings, storage: bound once; they are the compiled part.
        `shardings` are those of the parameters.

    Source: Zhao and Peng (2018), joint objective.
    """
    parts = settings.accumulation
    # Gathered once, labels and mask as one. What depends on them alone, draws too, is the same everywhere.
    labels = mesh_lib.gather_rows(mesh, jnp.where(batch["mask"], batch["label"], -1))
    real = jnp.maximum((labels >= 0).sum(dtype=jnp.int32), 1).astype(jnp.float32)
    labels = _split(labels, parts)
    key = jax.random.fold_in(jax.random.fold_in(state.key, _TRIPLETS), state.step)
    drawn = storage.draw(
        jax.random.split(key, parts),
        labels,
        costs.pair_weights,
        num_triplets=settings.num_triplets // parts,
    )
    number_valid = _number_valid(labels, drawn, costs)
    valid = jnp.maximum(number_valid, 1).astype(jnp.float32)

    def micro_loss(parameters, statistics, rows, labels, drawn):
        parameters = mesh_lib.gather_parameters(parameters, shardings)
        model = nnx.merge(graph, parameters, statistics)
        logits, embeddings = forward(model, rows["image"], cut=settings.cut, train=True)
        costly = logits
        pairs = costs.pair_weights.matrix
        if pairs is not None:
            costly = jax.lax.cond(
                costs.pair_beta > 0,
                lambda: confusion_weighted_logits(logits, rows["label"], pairs, beta=costs.pair_beta),
                lambda: logits,
            )
        ones = jnp.ones_like(costs.class_weights)
        plain = weighted_softmax_cross_entropy(logits, rows["label"], ones, where=rows["mask"])
        softmax = weighted_softmax_cross_entropy(
            costly,
            rows["label"],
            costs.class_weights,
            label_smoothing=settings.label_smoothing,
            where=rows["mask"],
        )
        softmax = (softmax * focal_factor(plain, costs.focal_gamma)).sum()
        sums = _Sums(
            softmax, *_triplet_sums(embeddings, labels, drawn, costs, margin=settings.margin, mesh=mesh)
        )
        loss = sums.softmax / real + costs.triplet_weight * sums.triplet / valid
        statistics = nnx.as_pure(nnx.state(model, nnx.BatchStat))
        return loss, (statistics, sums, logits)

    gradient_of = jax.value_and_grad(micro_loss, has_aux=True)

    def accumulate(carry, part):
        statistics, gradients = carry
        (_, (statistics, *aux)), added = gradient_of(state.parameters, statistics, *part)
        return (statistics, jax.tree.map(jnp.add, gradients, added)), aux

    micro = (jax.tree.map(lambda a: _split(a, parts), batch), labels, drawn)
    if parts == 1:
        first = jax.tree.map(lambda a: a[0], micro)
        (_, (statistics, *aux)), gradients = gradient_of(state.parameters, state.batch_statistics, *first)
        aux = jax.tree.map(lambda a: a[None], aux)
    else:
        zeros = jax.tree.map(jnp.zeros_like, state.parameters)
        (statistics, gradients), aux = jax.lax.scan(accumulate, (state.batch_statistics, zeros), micro)
    sums, logits = aux
    sums = jax.tree.map(lambda a: a.sum(axis=0), sums)
    loss = sums.softmax / real + costs.triplet_weight * sums.triplet / valid
    logits = _join(logits)

    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    averages = state.averages
    if averages:
        averages = optax.incremental_update((parameters, statistics), averages, 1 - settings.ema_decay)
    correct = (jnp.argmax(logits, axis=1) == batch["label"]) & batch["mask"]
    metrics = {
        "loss": average(loss, 1),
        "softmax_loss": average(sums.softmax, real),
        "triplet_loss": average(sums.triplet, number_valid),
        "accuracy": average(correct.sum(dtype=jnp.float32), real),
        "active_share": average(sums.active, number_valid),
        "positive_distance": average(sums.positive, number_valid),
        "negative_distance": average(sums.negative, number_valid),
        "valid_share": average(number_valid, drawn.valid.size),
        "gradient_norm": average(optax.tree.norm(gradients), 1),
        "watched_share": average(sums.watched, jnp.broadcast_to(number_valid, sums.watched.shape)),
    }
    return TrainState(
        step=state.step + 1,
        key=state.key,
        parameters=parameters,
        batch_statistics=statistics,
        optimizer=optimizer_state,
        averages=averages,
        counts=storage.add(state.counts, batch, logits, soft=settings.soft_counts),
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


def evaluation_step(
    counts: tuple[EpochCounts, EpochCounts],
    parameters: Any,
    statistics: Any,
    batch: Batch,
    *,
    graph: nnx.GraphDef[Network],
    shardings: Any,
    storage: Storage,
    cut: int | None = None,
    flip: bool = False,
    features: bool = False,
) -> tuple[tuple[EpochCounts, EpochCounts], jax.Array]:
    """Hard and soft counts with a batch added, and its embeddings, by the model as it is used.

    That is with running statistics, without dropout. With `flip`, logits are the means over an image and its
    mirror image; embeddings are the image's own. With `features`, embeddings are the pooled features scaled
    to length 1, as if there were no projection.
    """
    model = nnx.merge(graph, mesh_lib.gather_parameters(parameters, shardings), statistics)
    if features:
        model.heads.projection = None
    logits, embeddings = forward(model, batch["image"], cut=cut, train=False)
    if flip:
        mirrored, _ = forward(model, batch["image"][:, :, ::-1], cut=cut, train=False)
        logits = (logits + mirrored) / 2
    hard, soft = counts
    counts = storage.add(hard, batch, logits, soft=False), storage.add(soft, batch, logits, soft=True)
    return counts, embeddings
