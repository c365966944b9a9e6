"""How the confusion becomes an epoch's costs, and the order of its images."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cdml_jax.confusion import Confusion, Statistics
from cdml_jax.confusion.costs import cost_statistics
from cdml_jax.errors import UserError
from cdml_jax.methods import Facts, Method
from cdml_jax.methods.checks import class_weights_of, group_weights_of, pair_weights_of
from cdml_jax.sampling import composition_correction, expected_class_shares, plan_epoch
from cdml_jax.sampling.mining import MINERS
from cdml_jax.training.settings import ConfusionSettings, TrainingSettings
from cdml_jax.training.state import Costs
from cdml_jax.training.storage import Storage

WATCHED_PAIRS = 10


class EpochPlan(NamedTuple):
    """What an epoch is made of.

    Attributes:
      costs: of every step, on the host.
      order: dataset indices, (steps, batch) int32.
    """

    costs: Costs
    order: np.ndarray


def _dropped(method: Method, config: TrainingSettings, epoch: int) -> np.float32 | None:
    """The share of the images that is left out; below 0 in the warm-up, where no change is looked at."""
    dropping = method.structure.dropping
    if dropping is None:
        return None
    after = epoch - config.warmup_epochs
    return np.float32(dropping.share_of(after) if after >= 0 else -1.0)


def check_method(method: Method, storage: Storage) -> None:
    """Refuse a method that needs what is not there.

    Raises:
      UserError: its miner is unknown, or it needs whole rows of pair weights that are not kept.
    """
    if method.miner and method.miner not in MINERS:
        raise UserError(
            f"{method.title}: miner {method.miner!r} is unknown; choose one of {', '.join(MINERS)}"
        )
    if method.pair_beta and not storage.whole_pairs:
        raise UserError(
            f"{method.title} needs the weights of all pairs on every device; set confusion.storage=dense "
            f"({storage.num_classes} classes: {4 * storage.num_classes**2 / 1e9:.1f} GB)"
        )


def statistics_of(
    confusion: Confusion, settings: ConfusionSettings, costs: np.ndarray | None = None
) -> Statistics:
    """Error rates and pair weights that the next epoch uses.

    Args:
      confusion: kept so far.
      settings: `smoothing` and `symmetric` of the confusion.
      costs: a cost matrix (C, C) in the place of the confusion, as `checked_costs` gives; None for none.
    """
    if costs is None:
        return confusion.statistics(smoothing=settings.smoothing, symmetric=settings.symmetric)
    errors, correct = confusion.errors_and_correct()
    if not (errors.sum() + correct.sum()) > 0:
        return cost_statistics(costs, None)
    confused = confusion.statistics(smoothing=settings.smoothing, symmetric=False).pairs.on_host()
    return cost_statistics(costs, confused.matrix)


def plan_of_epoch(
    method: Method, config: TrainingSettings, labels: np.ndarray, facts: Facts, *, seed: int, epoch: int
) -> EpochPlan:
    """Costs and order of one epoch of one method, from the facts so far.

    In the first `warmup_epochs` every method is the baseline: w = 1, λ = 0, no composition.

    Args:
      method: what is trained.
      config: the settings.
      labels: class of each training image.
      facts: of the epochs before.
      seed, epoch: of the draws.
    """
    warm = epoch < config.warmup_epochs
    anchors, pairs = group_weights_of(method, facts), pair_weights_of(method, facts)
    in_batch = pairs if config.objective.in_batch == "confusion" else pairs.uniform()
    pairs_on_host = pairs.on_host()
    composition: dict[str, Any] = {
        "batch_size": config.batch_size,
        "composed": config.sampling.composed if method.composed and not warm else 0.0,
        "images_per_class": config.sampling.images_per_class,
        "classes_per_group": config.sampling.classes_per_group,
    }
    weights = np.ones(facts.sizes.size) if warm else class_weights_of(method, facts)
    if composition["composed"] and config.sampling.composition_correction:
        shares = expected_class_shares(labels, anchors, pairs_on_host, **composition)
        weights = weights * composition_correction(labels, shares)
    objective = config.objective
    mined = bool(method.miner) and not warm
    costs = Costs(
        class_weights=np.asarray(weights, np.float32),
        pair_weights=in_batch,
        triplet_weight=np.float32(objective.triplet_weight if mined else 0.0),
        focal_gamma=np.float32(0.0 if warm else method.focal_gamma),
        pair_beta=np.float32(0.0 if warm else objective.pair_beta * method.pair_beta),
        miner=np.int32(list(MINERS).index(method.miner) if mined else 0),
        watched_pairs=facts.statistics.pairs.on_host().largest(WATCHED_PAIRS),
        terms={
            term.name: np.float32(0.0 if warm else objective.term_factor * term.weight(facts.sizes.size))
            for term in method.structure.terms
        },
        dropped=_dropped(method, config, epoch),
    )
    return EpochPlan(costs, plan_epoch(seed, epoch, labels, anchors, pairs_on_host, **composition))
