"""Rows of a table: which costs a method uses, and how an epoch's confusion becomes the step's arrays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cdml_jax import confusion
from cdml_jax.controls import class_balanced, inverse_frequency
from cdml_jax.errors import UserError
from cdml_jax.plan import composition_correction, expected_class_shares, plan_epoch
from cdml_jax.top_confusions import TopConfusions, TopPairWeights
from cdml_jax.training.settings import ConfusionSettings
from cdml_jax.training.state import MINING, Costs
from cdml_jax.training.storage import Counts, PairWeights, Storage, compiled, to_host

if TYPE_CHECKING:
    from cdml_jax.configuration.settings import Settings


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


class Statistics(NamedTuple):
    """What the confusion says: rates W (C,) float32 on the host, and pair weights A as they are stored."""

    rates: np.ndarray
    pairs: PairWeights


def confusion_statistics(counts: Counts, settings: ConfusionSettings) -> Statistics:
    """Rates and pair weights of the counts kept so far."""
    if isinstance(counts, jax.Array):
        derive = compiled(_statistics_by_row, (_whole(counts), counts.sharding), ("symmetric",))
        rates, pairs = derive(counts, settings.smoothing, symmetric=settings.symmetric)
        return Statistics(np.asarray(rates), pairs)
    derive = compiled(_statistics, None, ("symmetric",))
    return Statistics(
        *jax.tree.map(np.asarray, derive(counts, settings.smoothing, symmetric=settings.symmetric))
    )


def _whole(matrix: jax.Array) -> NamedSharding:
    sharding: Any = matrix.sharding
    return NamedSharding(sharding.mesh, PartitionSpec())


def _statistics(
    counts: np.ndarray | TopConfusions, smoothing: jax.Array, symmetric: bool
) -> tuple[jax.Array, jax.Array | TopPairWeights]:
    rates = confusion.class_weights(counts, smoothing=smoothing, normalize=False)  # type: ignore[arg-type]
    return rates, confusion.pair_weights(counts, smoothing=smoothing, symmetric=symmetric)  # type: ignore[arg-type]


def _statistics_by_row(
    counts: jax.Array, smoothing: jax.Array, symmetric: bool
) -> tuple[jax.Array, jax.Array]:
    rows, classes = counts.shape
    rates = confusion.class_weights(counts[:classes], smoothing=smoothing, normalize=False)
    pairs = confusion.pair_weights(counts[:classes], smoothing=smoothing, symmetric=symmetric)
    return rates, jnp.pad(jnp.asarray(pairs), ((0, rows - classes), (0, 0)))


def _class_weights_of(
    counts: Counts, mode: str, normalize: bool, beta: jax.Array, smoothing: jax.Array
) -> jax.Array:
    matrix = counts if isinstance(counts, TopConfusions) else counts[: counts.shape[1]]  # without padding
    return confusion.class_weights(matrix, mode=mode, normalize=normalize, beta=beta, smoothing=smoothing)


def _cells(matrix: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
    return matrix[i, j]


def _class_weights(counts: Counts, config: Settings) -> np.ndarray:
    keywords = {
        "mode": config.objective.mode,
        "beta": config.objective.beta,
        "smoothing": config.confusion.smoothing,
        "normalize": config.objective.normalize,
    }
    whole = _whole(counts) if isinstance(counts, jax.Array) else None
    return np.asarray(compiled(_class_weights_of, whole, ("mode", "normalize"))(counts, **keywords))


def uniform_pairs(pairs: PairWeights) -> PairWeights:
    """Equal weights of all pairs of classes, stored as `pairs` are."""
    if isinstance(pairs, TopPairWeights):
        classes = pairs.rest.size
        rest = np.full(classes, 1 / max(classes * (classes - 1), 1), np.float32)
        return TopPairWeights(np.full_like(pairs.indices, -1), np.zeros_like(pairs.excess), rest)
    rows, classes = pairs.shape
    equal = (1 - np.eye(rows, classes, dtype=np.float32)) / max(classes * (classes - 1), 1)
    return jax.device_put(equal, pairs.sharding) if isinstance(pairs, jax.Array) else equal


def weights_of(pairs: PairWeights, places: np.ndarray) -> np.ndarray:
    """Weights of some ordered pairs of classes (pairs, 2)."""
    i, j = places.T
    if isinstance(pairs, TopPairWeights):
        listed = np.where(pairs.indices[i] == j[:, None], pairs.excess[i], 0)
        return pairs.rest[i] + listed.sum(axis=1)
    if isinstance(pairs, jax.Array):
        return np.asarray(compiled(_cells, _whole(pairs))(pairs, i, j))
    return pairs[i, j]


class EpochPlan(NamedTuple):
    """What an epoch is made of: the step's costs (host arrays) and the order of the images."""

    costs: Costs
    order: np.ndarray  # (steps, batch) int32


def plan_row_epoch(
    row: Row,
    config: Settings,
    labels: np.ndarray,
    counts: Counts,
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
    by_confusion = row.pairs == "confusion"
    rates = statistics.rates if by_confusion else np.ones(num_classes, np.float32)
    pairs = statistics.pairs if by_confusion else uniform_pairs(statistics.pairs)
    in_batch = pairs if config.objective.in_batch == "confusion" else uniform_pairs(pairs)
    watched = most_confused(on_host := _on_host(statistics.pairs))
    pairs = on_host if by_confusion else _on_host(pairs)
    composition: dict[str, Any] = {
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


def most_confused(pairs: PairWeights, number: int = WATCHED_PAIRS) -> np.ndarray:
    """(number, 2) int32: the ordered pairs of largest weight, ties by index; fewer if there are no more.

    >>> most_confused(np.array([[0.0, 0.7], [0.3, 0.0]]), 2).tolist()
    [[0, 1], [1, 0]]
    >>> most_confused(np.zeros((2, 2)), 9).tolist()
    [[0, 1], [1, 0]]
    """
    if isinstance(pairs, TopPairWeights):
        return _most_confused_of_top(pairs, number)
    classes = pairs.shape[0]
    weights = np.array(pairs).ravel()
    weights[:: classes + 1] = -1
    number = min(number, classes * (classes - 1))
    least = np.partition(weights, weights.size - number)[weights.size - number]
    found = np.flatnonzero(weights > least)
    found = np.concatenate([found, np.flatnonzero(weights == least)[: number - found.size]])
    found = found[np.lexsort([found, -weights[found]])]
    return np.stack(np.unravel_index(found, pairs.shape), axis=1).astype(np.int32)


def _most_confused_of_top(pairs: TopPairWeights, number: int) -> np.ndarray:
    """The listed pairs, and of the classes of largest rest the first that are not listed."""
    classes = pairs.rest.size
    i, k = np.nonzero(pairs.excess > 0)
    j = pairs.indices[i, k]
    more = [
        (row, column)
        for row in np.argsort(-pairs.rest, kind="stable")[:number].tolist()
        for column in range(min(classes, number + pairs.indices.shape[1] + 1))
        if column != row and column not in pairs.indices[row]
    ]
    places = np.concatenate([np.stack([i, j], axis=1), np.array(more, np.int64).reshape(-1, 2)])
    order = np.lexsort([places[:, 1], places[:, 0], -weights_of(pairs, places)])
    return places[order[: min(number, classes * (classes - 1))]].astype(np.int32)


def _on_host(pairs: PairWeights) -> PairWeights:
    return pairs if isinstance(pairs, TopPairWeights) else to_host(pairs)[: pairs.shape[1]]
