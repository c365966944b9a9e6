"""Rows of a table: which costs a method uses, and how an epoch's confusion becomes the step's arrays."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cdml_jax import confusion
from cdml_jax.controls import inverse_frequency
from cdml_jax.errors import UserError
from cdml_jax.plan import composition_correction, expected_class_shares, plan_epoch
from cdml_jax.training.state import Costs


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
      title: what tables call it.
      class_weighting: `"none"`, `"confusion"` or `"inverse_frequency"`.
      triplets: whether the triplet term counts.
      pairs: what draws triplets and composes batches: `"confusion"` or `"uniform"`.
      composed: whether batches are composed.
      focal_gamma: γ of the focal loss; 0 for plain cross-entropy.
      batch_hard: hardest triplets of the batch in place of drawn ones.
    """

    title: str
    class_weighting: str = "none"
    triplets: bool = False
    pairs: str = "confusion"
    composed: bool = False
    focal_gamma: float = 0.0
    batch_hard: bool = False


ROWS = {
    "baseline": Row("Baseline"),
    "weighted_softmax": Row("Weighted softmax", class_weighting="confusion"),
    "confusion_driven": Row("Confusion driven metric learning", triplets=True, composed=True),
    "cdml": Row("CDML", class_weighting="confusion", triplets=True, composed=True),
    "composition_only": Row("Composed batches alone", composed=True),
    "triplets_only": Row("Confusion triplets alone", triplets=True),
    "uniform_pairs": Row("Uniform pairs", triplets=True, composed=True, pairs="uniform"),
    "inverse_frequency": Row("Inverse class frequency", class_weighting="inverse_frequency"),
    "focal": Row("Focal loss", focal_gamma=2.0),
    "batch_hard": Row("Batch-hard triplets", triplets=True, composed=True, pairs="uniform", batch_hard=True),
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


class Statistics(NamedTuple):
    """What the confusion says: rates W (C,) and pair weights A (C, C), float32, on the host."""

    rates: np.ndarray
    pairs: np.ndarray


def confusion_statistics(counts: np.ndarray, settings: ConfigDict) -> Statistics:
    """Rates and pair weights of the counts (C, C) kept so far."""
    on_device = jnp.asarray(counts)
    rates = confusion.class_weights(on_device, smoothing=settings.smoothing, normalize=False)
    pairs = confusion.pair_weights(on_device, smoothing=settings.smoothing, symmetric=settings.symmetric)
    return Statistics(np.asarray(rates), np.asarray(pairs))


class EpochPlan(NamedTuple):
    """What an epoch is made of: the step's costs (host arrays) and the order of the images."""

    costs: Costs
    order: np.ndarray  # (steps, batch) int32


def plan_row_epoch(
    row: Row,
    config: ConfigDict,
    labels: np.ndarray,
    counts: np.ndarray,
    statistics: Statistics,
    *,
    seed: int,
    epoch: int,
) -> EpochPlan:
    """Costs and order of one epoch of one row, from the confusion counts so far.

    In the first `warmup_epochs` every row is the baseline: w = 1, λ = 0, no composition.
    """
    warm = epoch < config.warmup_epochs
    num_classes = statistics.rates.size
    uniform_pairs = (1 - np.eye(num_classes, dtype=np.float32)) / max(num_classes * (num_classes - 1), 1)
    by_confusion = row.pairs == "confusion"
    rates = statistics.rates if by_confusion else np.ones(num_classes, np.float32)
    pairs = statistics.pairs if by_confusion else uniform_pairs
    composition = {
        "batch_size": config.batch_size,
        "composed": config.sampling.composed if row.composed and not warm else 0.0,
        "images_per_class": config.sampling.images_per_class,
        "classes_per_group": config.sampling.classes_per_group,
    }
    weights = np.ones(num_classes)
    if not warm and row.class_weighting == "confusion":
        weights = np.asarray(
            confusion.class_weights(
                jnp.asarray(counts),
                mode=config.objective.mode,
                beta=config.objective.beta,
                smoothing=config.confusion.smoothing,
                normalize=config.objective.normalize,
            )
        )
    elif not warm and row.class_weighting == "inverse_frequency":
        weights = np.asarray(inverse_frequency(jnp.asarray(np.bincount(labels, minlength=num_classes))))
    if composition["composed"] and config.sampling.composition_correction:
        shares = expected_class_shares(labels, rates, pairs, **composition)
        weights = weights * composition_correction(labels, shares)
    triplets_on = row.triplets and not warm
    costs = Costs(
        class_weights=np.asarray(weights, np.float32),
        pair_weights=pairs if config.objective.in_batch == "confusion" else uniform_pairs,
        triplet_weight=np.float32(config.objective.triplet_weight if triplets_on else 0.0),
        focal_gamma=np.float32(0.0 if warm else row.focal_gamma),
        batch_hard=np.bool_(row.batch_hard and not warm),
        watched_pairs=most_confused(statistics.pairs),
    )
    return EpochPlan(costs, plan_epoch(seed, epoch, labels, rates, pairs, **composition))


def most_confused(pairs: np.ndarray, number: int = WATCHED_PAIRS) -> np.ndarray:
    """(number, 2) int32: the ordered pairs of largest weight, ties by index; fewer if there are no more.

    >>> most_confused(np.array([[0.0, 0.7], [0.3, 0.0]]), 2).tolist()
    [[0, 1], [1, 0]]
    >>> most_confused(np.zeros((2, 2)), 9).tolist()
    [[0, 1], [1, 0]]
    """
    classes = pairs.shape[0]
    off_diagonal = np.where(np.eye(classes, dtype=bool), -1.0, pairs)
    flat = np.argsort(-off_diagonal, axis=None, kind="stable")[: min(number, classes * (classes - 1))]
    return np.stack(np.unravel_index(flat, pairs.shape), axis=1).astype(np.int32)
