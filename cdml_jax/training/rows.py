"""Rows of a table: which costs a method uses, and how an epoch's confusion becomes the step's arrays."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cdml_jax.confusion import Confusion, Statistics
from cdml_jax.controls import class_balanced, inverse_frequency
from cdml_jax.errors import UserError
from cdml_jax.sampling import composition_correction, expected_class_shares, plan_epoch
from cdml_jax.training.state import MINING, Costs
from cdml_jax.training.storage import Storage


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
      title: what tables call it.
      class_weighting: `"none"`, `"confusion"`, `"inverse_frequency"` or `"class_balanced"`.
      triplets: whether the triplet term counts.
      pairs: what draws triplets and composes batches: `"confusion"` or `"uniform"`.
      composed: whether batches are composed.
      focal_gamma: γ of the focal loss; 0 for plain cross-entropy.
      mining: how triplets are found, one of `MINING`.
      pair_costs: whether each wrong class counts by how often it is taken for the right one.
    """

    title: str
    class_weighting: str = "none"
    triplets: bool = False
    pairs: str = "confusion"
    composed: bool = False
    focal_gamma: float = 0.0
    mining: str = "drawn"
    pair_costs: bool = False


ROWS = {
    "baseline": Row("Baseline"),
    "weighted_softmax": Row("Weighted softmax", class_weighting="confusion"),
    "confusion_driven": Row("Confusion driven metric learning", triplets=True, composed=True),
    "cdml": Row("CDML", class_weighting="confusion", triplets=True, composed=True),
    "composition_only": Row("Composed batches alone", composed=True),
    "triplets_only": Row("Confusion triplets alone", triplets=True),
    "uniform_pairs": Row("Uniform pairs", triplets=True, composed=True, pairs="uniform"),
    "inverse_frequency": Row("Inverse class frequency", class_weighting="inverse_frequency"),
    "class_balanced": Row("Class-balanced loss", class_weighting="class_balanced"),
    "focal": Row("Focal loss", focal_gamma=2.0),
    "batch_hard": Row(
        "Batch-hard triplets", triplets=True, composed=True, pairs="uniform", mining="batch_hard"
    ),
    "semi_hard": Row("Semi-hard triplets", triplets=True, composed=True, pairs="uniform", mining="semi_hard"),
    "pair_costs": Row("Confusion-weighted logits", pair_costs=True),
    "pair_costs_triplets": Row(
        "Confusion-weighted logits and triplets", pair_costs=True, triplets=True, composed=True
    ),
}
PAPER_ROWS = ("baseline", "weighted_softmax", "confusion_driven", "cdml")
WATCHED_PAIRS = 10


def named_row(name: str) -> Row:
    """The row of that name.

    Raises:
      UserError: there is none.
    """
    if name not in ROWS:
        raise UserError(f"row: {name!r} is unknown; choose one of {', '.join(ROWS)}")
    return ROWS[name]


def check_row(name: str, storage: Storage) -> None:
    """Refuse a row that needs what is not kept.

    Raises:
      UserError: whole rows of pair weights are needed.
    """
    if named_row(name).pair_costs and not storage.whole_pairs:
        raise UserError(
            f"row: {name} needs the weights of all pairs on every device; set confusion.storage=dense "
            f"({storage.num_classes} classes: {4 * storage.num_classes**2 / 1e9:.1f} GB)"
        )


def statistics_of(counts: Confusion, settings: ConfigDict) -> Statistics:
    """Rates and pair weights of the counts kept so far, smoothed as the settings say."""
    return counts.statistics(smoothing=settings.smoothing, symmetric=settings.symmetric)


class EpochPlan(NamedTuple):
    """What an epoch is made of: the step's costs (host arrays) and the order of the images."""

    costs: Costs
    order: np.ndarray  # (steps, batch) int32


def plan_row_epoch(
    row: Row,
    config: ConfigDict,
    labels: np.ndarray,
    counts: Confusion,
    statistics: Statistics,
    *,
    seed: int,
    epoch: int,
) -> EpochPlan:
    """Costs and order of one epoch of one row, from the confusion so far.

    In the first `warmup_epochs` every row is the baseline: w = 1, λ = 0, no composition.
    """
    warm = epoch < config.warmup_epochs
    num_classes = statistics.rates.size
    by_confusion = row.pairs == "confusion"
    rates = statistics.rates if by_confusion else np.ones(num_classes, np.float32)
    pairs = statistics.pairs if by_confusion else statistics.pairs.uniform()
    in_batch = pairs if config.objective.in_batch == "confusion" else pairs.uniform()
    on_host = statistics.pairs.on_host()
    watched = on_host.largest(WATCHED_PAIRS)
    pairs = on_host if by_confusion else pairs.on_host()
    composition = {
        "batch_size": config.batch_size,
        "composed": config.sampling.composed if row.composed and not warm else 0.0,
        "images_per_class": config.sampling.images_per_class,
        "classes_per_group": config.sampling.classes_per_group,
    }
    weights = np.ones(num_classes)
    if not warm and row.class_weighting == "confusion":
        weights = _class_weights(counts, config)
    elif not warm and row.class_weighting == "inverse_frequency":
        weights = np.asarray(inverse_frequency(jnp.asarray(np.bincount(labels, minlength=num_classes))))
    elif not warm and row.class_weighting == "class_balanced":
        weights = np.asarray(class_balanced(jnp.asarray(np.bincount(labels, minlength=num_classes))))
    if composition["composed"] and config.sampling.composition_correction:
        shares = expected_class_shares(labels, rates, pairs, **composition)
        weights = weights * composition_correction(labels, shares)
    triplets_on = row.triplets and not warm
    costs = Costs(
        class_weights=np.asarray(weights, np.float32),
        pair_weights=in_batch,
        triplet_weight=np.float32(config.objective.triplet_weight if triplets_on else 0.0),
        focal_gamma=np.float32(0.0 if warm else row.focal_gamma),
        pair_beta=np.float32(config.objective.pair_beta if row.pair_costs and not warm else 0.0),
        mining=np.int32(0 if warm else MINING.index(row.mining)),
        watched_pairs=watched,
    )
    return EpochPlan(costs, plan_epoch(seed, epoch, labels, rates, pairs, **composition))


def _class_weights(counts: Confusion, config: ConfigDict) -> np.ndarray:
    return counts.class_weights_on_host(
        mode=config.objective.mode,
        beta=config.objective.beta,
        smoothing=config.confusion.smoothing,
        normalize=config.objective.normalize,
    )
