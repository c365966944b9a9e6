"""The joint objective of a batch: weighted softmax, triplets and the terms of a structure.

What labels alone decide comes first: `draw` says which rows meet, `denominators` what each sum is divided by.
`micro_sums` adds up a microbatch after its forward pass, and `joint_loss` divides once, over the whole batch.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.losses import (
    confusion_weighted_logits,
    focal_factor,
    squared_distance,
    triplet_margin_loss,
    weighted_softmax_cross_entropy,
)
from cdml_jax.methods.structure import GATHER, PLAIN, Substep, Term, needs_of
from cdml_jax.models.heads import Outputs
from cdml_jax.sampling.mining import MINERS, mineable
from cdml_jax.sampling.triplets import Sample, Triplets, sample_triplets
from cdml_jax.training.state import Costs
from cdml_jax.training.storage import Storage

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray

# Purposes of the keys folded from (seed, purpose, step).
TRIPLETS, TERMS, CHANGES = 1, 2, 3


class Drawn(NamedTuple):
    """What labels and keys decide before the network runs; every leaf is (parts, …)."""

    triplets: Triplets
    terms: dict[str, Any]


class Denominators(NamedTuple):
    """What the sums of the whole batch are divided by, at least 1."""

    real: Float[Array, ""]
    valid: Float[Array, ""]
    terms: dict[str, Array]


class Sums(NamedTuple):
    """What a microbatch adds up."""

    softmax: Float[Array, ""]
    triplet: Float[Array, ""]
    active: Float[Array, ""]
    positive: Float[Array, ""]
    negative: Float[Array, ""]
    watched: Float[Array, " pairs"]  # triplets of each watched pair
    terms: dict[str, Array]


def draw(
    key: PRNGKeyArray,
    step: Int[Array, ""],
    labels: Int[Array, "parts rows"],
    costs: Costs,
    *,
    num_triplets: int,
    terms: tuple[Term, ...],
    storage: Storage,
) -> Drawn:
    """Triplets of each microbatch, and what the terms use.

    Args:
      key: of the run; keys are folded from it by purpose, step and term.
      step: of the run.
      labels: of each microbatch, whole on every device; −1 where a row does not count.
      costs: of the epoch.
      num_triplets: of each microbatch.
      terms: of the structure.
      storage: of the pair weights.
    """

    def drawn(key: jax.Array, sample: Sample[Any]) -> Any:
        return storage.draw(jax.random.split(key, len(labels)), labels, costs.pair_weights, sample)

    def of(purpose: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, purpose), step)

    triplets = drawn(of(TRIPLETS), functools.partial(sample_triplets, num_triplets=num_triplets))
    prepared = {
        term.name: term.prepare(labels, functools.partial(drawn, jax.random.fold_in(of(TERMS), place)))
        for place, term in enumerate(terms)
    }
    return Drawn(triplets, prepared)


def number_valid(
    labels: Int[Array, "parts rows"], triplets: Triplets, miner: Int[Array, ""]
) -> Int[Array, ""]:
    """How many triplets of all microbatches are valid: known from labels alone."""
    mined = functools.partial(mineable, num_triplets=triplets.valid.shape[1])
    from_drawn = jnp.array([one.drawn for one in MINERS.values()])
    valid = jax.lax.cond(
        from_drawn[miner],
        lambda: triplets.valid,
        lambda: jax.vmap(lambda part: mined(part, where=part >= 0))(labels),
    )
    return valid.sum(dtype=jnp.int32)


def micro_sums(
    outputs: Outputs,
    extras: dict[str, jax.Array],
    rows: dict[str, jax.Array],
    labels: Int[Array, " rows"],
    drawn: Drawn,
    costs: Costs,
    *,
    margin: float,
    label_smoothing: float,
    terms: tuple[Term, ...],
    mesh: Mesh,
) -> Sums:
    """The sums of one microbatch.

    Args:
      outputs: of the network; its rows are split over "data", as those of `rows` are.
      extras: what else of the network the terms need, by name.
      rows: `label` and `mask` of the microbatch.
      labels: the same, whole on every device; −1 where a row does not count.
      drawn: the microbatch's part of `draw`'s.
      costs: of the epoch.
      margin, label_smoothing: as the losses take them.
      terms: of the structure.
      mesh: the devices.
    """
    logits, embeddings = outputs
    softmax = _softmax_sum(logits, rows, costs, label_smoothing=label_smoothing)
    triplet, active, positive, negative, watched = _triplet_sums(
        embeddings, labels, drawn.triplets, costs, margin=margin, mesh=mesh
    )

    offered = {**extras, GATHER: functools.partial(mesh_lib.gather_rows, mesh)}

    def total(term: Any) -> jax.Array:
        # Whole here, or XLA would divide what they were made of like the rows that they meet.
        known = jax.lax.with_sharding_constraint((labels, drawn.terms[term.name]), mesh_lib.replicated(mesh))
        return term(logits, embeddings, *known, **{name: offered[name] for name in needs_of(term)})

    added = {term.name: total(term) for term in terms}
    return Sums(softmax, triplet, active, positive, negative, watched, added)


def joint_loss(
    sums: Sums, denominators: Denominators, costs: Costs, substep: Substep = PLAIN.substeps[0]
) -> Float[Array, ""]:
    r"""The objective of what the sums were taken over.

    .. math:: L = \frac{\sum_b m_b w_{y_b} \ell_b}{\sum_b m_b} + \lambda \frac{\sum_t v_t \ell_t}{\sum_t v_t}
              + \sum_k \lambda_k \frac{S_k}{N_k}

    A sub-step may weigh the softmax, and one on other logits than the network's has that alone.
    """
    softmax = sums.softmax / denominators.real
    softmax = softmax if substep.weight == 1 else substep.weight * softmax
    if substep.logits:
        return softmax
    loss = softmax + costs.triplet_weight * sums.triplet / denominators.valid
    for name, total in sums.terms.items():
        loss = loss + costs.terms[name] * total / denominators.terms[name]
    return loss


def _softmax_sum(
    logits: jax.Array, rows: dict[str, jax.Array], costs: Costs, *, label_smoothing: float
) -> jax.Array:
    """Σ m w (1 − p)^γ ℓ; ℓ is of the confusion-weighted logits where β > 0."""
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
        label_smoothing=label_smoothing,
        where=rows["mask"],
    )
    return (softmax * focal_factor(plain, costs.focal_gamma)).sum()


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
    def sums(embeddings, labels, drawn, miner, watched_pairs):
        embeddings = jax.lax.all_gather(embeddings, mesh_lib.DATA, tiled=True)  # (B, size) on every device
        first = jax.lax.axis_index(mesh_lib.DATA) * share

        drawn = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, share), drawn)

        def found(one):
            return lambda: one(embeddings, labels, drawn, where=labels >= 0, first=first)

        triplets = jax.lax.switch(miner, tuple(found(one) for one in MINERS.values()))
        anchor, positive, negative = (embeddings[index] for index in triplets[:3])
        losses = triplet_margin_loss(anchor, positive, negative, margin=margin)
        parts = (losses, losses > 0, squared_distance(anchor, positive), squared_distance(anchor, negative))
        sums = [jnp.where(triplets.valid, part, 0).astype(losses.dtype).sum() for part in parts]
        classes = jnp.stack([labels[triplets.anchor], labels[triplets.negative]], axis=1)
        # (share, pairs): which triplet is of which watched pair.
        watched = (classes[:, None] == watched_pairs).all(axis=2) & triplets.valid[:, None]
        return jax.lax.psum((*sums, watched.sum(axis=0, dtype=losses.dtype)), mesh_lib.DATA)

    return sums(embeddings, labels, drawn, costs.miner, costs.watched_pairs)
