"""The training step: a pure function of arrays, bound by `functools.partial`."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods.structure import PLAIN, Structure
from cdml_jax.methods.views import VIEWS
from cdml_jax.models.heads import Outputs
from cdml_jax.models.network import Network
from cdml_jax.models.pixels import normalize_images
from cdml_jax.training.averages import Average, average, ema_decay, merge
from cdml_jax.training.objective import (
    CHANGES,
    Denominators,
    Drawn,
    Sums,
    draw,
    joint_loss,
    micro_sums,
    number_valid,
)
from cdml_jax.training.state import NO_STEP, Costs, TrainState
from cdml_jax.training.storage import Storage, kept_rows, seen

Batch = dict[str, jax.Array]  # image (B, H, W, 3) uint8, label (B,), mask (B,), index (B,)


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What is fixed for all methods of one structure, and so part of the compiled step.

    Attributes:
      num_triplets: of a whole batch.
      margin: α of the triplets.
      label_smoothing: ε of the softmax.
      accumulation: microbatches of a batch.
      soft_counts: whether probabilities are counted, or predicted classes.
      ema_decay: the largest decay of the moving averages; 0 where none are kept.
      cut: blocks of the network that are not trained; the batch then holds what comes after them.
      structure: the terms besides softmax and triplets, and what else differs from the baseline's step.
    """

    num_triplets: int
    margin: float
    label_smoothing: float
    accumulation: int
    soft_counts: bool
    ema_decay: float
    cut: int | None = None
    structure: Structure = PLAIN


def forward(model: Network, images: jax.Array, *, cut: int | None, train: bool) -> Outputs:
    """What the network says of images as bytes or, behind a cut, of what its front gave."""
    if cut is None:
        return model(_pixels(model, images), train=train)
    return model.back(images, cut, train=train)


def observed(
    model: Network, images: jax.Array, *, cut: int | None, taps: tuple[str, ...]
) -> tuple[Outputs, dict[str, jax.Array]]:
    """As `forward` in training, and what else of the network terms need, by name."""
    if not taps:
        return forward(model, images, cut=cut, train=True), {}
    if cut is None:
        return model.observe_images(_pixels(model, images), train=True, taps=taps)
    return model.observe(images, cut, train=True, taps=taps)


def _pixels(model: Network, images: jax.Array) -> jax.Array:
    dtype = jnp.result_type(*jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.Param))))
    return normalize_images(images, dtype)


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
    r"""State after one step on the joint objective (`joint_loss`), with its counts and metrics.

    Args:
      state: as `make_initializer` gives; donate it.
      batch: `image` (B, H, W, 3) uint8, `label` (B,) integers, `mask` (B,) bool, `index` (B,) integers, split
        over "data".
      costs: weights of this epoch, replicated but for pair weights that are split by class.
      graph, optimizer, settings, mesh, shardings, storage: bound once; they are the compiled part.
        `shardings` are those of the parameters.

    Source: Zhao and Peng (2018), joint objective.
    """
    parts, terms = settings.accumulation, settings.structure.terms
    given = batch
    if settings.structure.dropping:
        # An image that is left out is a row that does not count, in the counts of the confusion too.
        batch = batch | {"mask": batch["mask"] & kept_rows(state.images, batch["index"], costs.dropped)}
    # Gathered once, labels and mask as one. What depends on them alone, draws too, is the same everywhere.
    labels = mesh_lib.gather_rows(mesh, jnp.where(batch["mask"], batch["label"], -1))
    real = jnp.maximum((labels >= 0).sum(dtype=jnp.int32), 1).astype(jnp.float32)
    labels = _split(labels, parts)  # (parts, B / parts)
    drawn = draw(
        state.key,
        state.step,
        labels,
        costs,
        num_triplets=settings.num_triplets // parts,
        terms=terms,
        storage=storage,
    )
    valid = number_valid(labels, drawn.triplets, costs.miner)
    counts = {term.name: term.count(drawn.terms[term.name]) for term in terms}
    denominators = Denominators(
        real,
        jnp.maximum(valid, 1).astype(jnp.float32),
        {name: jnp.maximum(count, 1).astype(jnp.float32) for name, count in counts.items()},
    )

    made = _all_updates(
        state,
        batch,
        labels,
        drawn,
        denominators,
        costs,
        graph=graph,
        optimizer=optimizer,
        settings=settings,
        mesh=mesh,
        shardings=shardings,
    )
    updated, loss, logits = _averaged(made.state, settings), made.losses[-1], made.logits
    all_losses = functools.reduce(jnp.add, made.losses)
    metrics = _metrics(
        loss, made.sums, denominators, valid, counts, logits, batch, made.gradients, drawn.triplets.valid
    )
    if settings.structure.dropping:
        looked_at = given | {"mask": given["mask"] & (costs.dropped >= 0)}
        updated = updated._replace(images=seen(state.images, looked_at, logits, mesh))
        dropped = given["mask"] & ~batch["mask"]
        real = given["mask"].sum(dtype=jnp.float32)
        metrics["dropped_share"] = average(dropped.sum(dtype=jnp.float32), real)
    return updated._replace(
        step=state.step + 1,
        counts=storage.add(state.counts, batch, logits, soft=settings.soft_counts),
        metrics=merge(state.metrics, metrics),
        first_bad_step=jnp.minimum(
            state.first_bad_step,
            jnp.where(jnp.isfinite(all_losses), NO_STEP, state.step),
        ).astype(jnp.int32),
    )


class _Made(NamedTuple):
    """What the updates of a batch leave behind; all but the state and the losses is of the last one."""

    state: TrainState
    gradients: Any
    sums: Sums
    logits: jax.Array
    losses: list[jax.Array]


def _all_updates(
    state: TrainState,
    batch: Batch,
    labels: jax.Array,
    drawn: Drawn,
    denominators: Denominators,
    costs: Costs,
    *,
    graph: nnx.GraphDef[Network],
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    mesh: Mesh,
    shardings: Any,
) -> _Made:
    """The updates that the structure makes of a batch, one after another; `labels` are of each microbatch."""
    parts, terms = settings.accumulation, settings.structure.terms
    updated, losses = state, []
    for place, substep in enumerate(settings.structure.substeps):

        def micro_loss(parameters, statistics, rows, labels, drawn, substep=substep):
            parameters = mesh_lib.gather_parameters(parameters, shardings)
            model = nnx.merge(graph, parameters, statistics)
            taps = (*settings.structure.taps, *filter(None, (substep.logits,)))
            outputs, extras = observed(model, rows["image"], cut=settings.cut, taps=taps)
            if substep.logits:
                outputs = outputs._replace(logits=extras[substep.logits])
            sums = micro_sums(
                outputs,
                extras,
                rows,
                labels,
                drawn,
                costs,
                margin=settings.margin,
                label_smoothing=settings.label_smoothing,
                terms=() if substep.logits else terms,
                mesh=mesh,
            )
            statistics = nnx.as_pure(nnx.state(model, nnx.BatchStat))
            return joint_loss(sums, denominators, costs, substep), (statistics, sums, outputs.logits)

        used = {name: rows for name, rows in batch.items() if name != "index"}
        if substep.view:
            used["image"] = VIEWS[substep.view](used["image"], view_key(state, place))
        micro = (jax.tree.map(lambda a: _split(a, parts), used), labels, drawn)
        gradients, statistics, sums, logits = _accumulated(micro_loss, updated, micro)
        losses.append(joint_loss(sums, denominators, costs, substep))
        updated = _update(updated, gradients, statistics, optimizer)
    return _Made(updated, gradients, sums, logits, losses)


def _accumulated(micro_loss: Any, state: TrainState, micro: Any) -> tuple[Any, Any, Sums, jax.Array]:
    """Gradients, batch statistics, sums and logits (B, C) of all microbatches, one after another."""
    gradient_of = jax.value_and_grad(micro_loss, has_aux=True)

    def accumulate(carry, part):
        statistics, gradients = carry
        (_, (statistics, *aux)), added = gradient_of(state.parameters, statistics, *part)
        return (statistics, jax.tree.map(jnp.add, gradients, added)), aux

    if jax.tree.leaves(micro)[0].shape[0] == 1:
        first = jax.tree.map(lambda a: a[0], micro)
        (_, (statistics, *aux)), gradients = gradient_of(state.parameters, state.batch_statistics, *first)
        aux = jax.tree.map(lambda a: a[None], aux)
    else:
        zeros = jax.tree.map(jnp.zeros_like, state.parameters)
        (statistics, gradients), aux = jax.lax.scan(accumulate, (state.batch_statistics, zeros), micro)
    sums, logits = aux
    return gradients, statistics, jax.tree.map(lambda a: a.sum(axis=0), sums), _join(logits)


def view_key(state: TrainState, place: int) -> jax.Array:
    """Key of what is done to the images of a batch in its update number `place`."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(state.key, CHANGES), state.step), place)


def _update(
    state: TrainState, gradients: Any, statistics: Any, optimizer: optax.GradientTransformation
) -> TrainState:
    """State with parameters and optimiser after the gradients of one update."""
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    return state._replace(parameters=parameters, batch_statistics=statistics, optimizer=optimizer_state)


def _averaged(state: TrainState, settings: StepSettings) -> TrainState:
    """State with moving averages after the updates of one batch."""
    if not state.averages:
        return state
    share = 1 - ema_decay(state.step, settings.ema_decay)
    found = state.parameters, state.batch_statistics
    return state._replace(averages=optax.incremental_update(found, state.averages, share))


def _metrics(
    loss: jax.Array,
    sums: Sums,
    denominators: Denominators,
    valid: jax.Array,
    counts: dict[str, jax.Array],
    logits: jax.Array,
    batch: Batch,
    gradients: Any,
    drawn: jax.Array,
) -> dict[str, Average]:
    """What the step adds to the epoch's averages; `empty_metrics` has the same names."""
    real = denominators.real
    correct = (jnp.argmax(logits, axis=1) == batch["label"]) & batch["mask"]
    return {
        "loss": average(loss, 1),
        "softmax_loss": average(sums.softmax, real),
        "triplet_loss": average(sums.triplet, valid),
        "accuracy": average(correct.sum(dtype=jnp.float32), real),
        "active_share": average(sums.active, valid),
        "positive_distance": average(sums.positive, valid),
        "negative_distance": average(sums.negative, valid),
        "valid_share": average(valid, drawn.size),
        "gradient_norm": average(optax.tree.norm(gradients), 1),
        "watched_share": average(sums.watched, jnp.broadcast_to(valid, sums.watched.shape)),
        **{f"{name}_loss": average(total, counts[name]) for name, total in sums.terms.items()},
    }


def _split(rows: jax.Array, parts: int) -> jax.Array:
    """(B, …) to (parts, B / parts, …), every part taking every parts-th row: no row changes device."""
    return rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:]).swapaxes(0, 1)


def _join(rows: jax.Array) -> jax.Array:
    """The inverse of `_split`."""
    return rows.swapaxes(0, 1).reshape(-1, *rows.shape[2:])
