"""Confusion statistics of a model and the two costs that they become.

Counts (C, C): row i is the true class, column j what the model called it; "hard" counts are images
(int32), "soft" ones sums of predicted probabilities (float32). They become P, the smoothed probability that
an image of class i is called j:

    P[i, j] = (counts[i, j] + s R[i, j]) / (Σ_k counts[i, k] + s)
    R[i, i] = 1 − ē,  R[i, j] = ē / (C − 1)

where ē is the mean row error of the classes seen (1 − 1/C if none is). So smoothing pulls a class towards the
average class: with uniform smoothing, class size alone would decide the weights. A row whose denominator
is 0 is R's row.

Where C x C is too much, `init_top` gives counts of another kind, which all but `triplet_quota` take as well
(`cdml_jax/top_confusions.py`).

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image
Classification", MultiMedia Modeling (MMM), 2018, confusion analysis; the smoothing is this library's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from cdml_jax import top_confusions
from cdml_jax.top_confusions import TopConfusions, TopPairWeights, init_top

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Num

__all__ = [
    "TopConfusions",
    "TopPairWeights",
    "class_weights",
    "init",
    "init_top",
    "pair_weights",
    "reduce",
    "triplet_quota",
    "update",
]


def init(num_classes: int, dtype: Any = jnp.int32) -> Num[Array, "classes classes"]:
    """Counts of nothing: (C, C) zeros, int32 for hard counts, float32 for soft or decayed ones.

    >>> init(2).tolist()
    [[0, 0], [0, 0]]
    """
    return jnp.zeros((num_classes, num_classes), dtype)


def update(
    counts: Num[Array, "classes classes"] | TopConfusions,
    labels: Int[Array, " batch"],
    predictions: Int[Array, " batch"] | Float[Array, "batch classes"],
    *,
    where: Bool[Array, " batch"] | None = None,
) -> Num[Array, "classes classes"] | TopConfusions:
    """Counts with a batch added: counts[y_b, ŷ_b] += 1, or counts[y_b, :] += p_b.

    Args:
      counts: as `init` or `init_top` gives; integer or floating. A matrix may be the first rows alone of a
        larger one: rows of other labels are left out.
      labels: true class of each row, from 0.
      predictions: predicted classes (batch,), integers, or probabilities (batch, C), floating.
      where: rows that count; the others may hold anything.

    Returns:
      Counts of the same kind and dtype. A row whose label, or whose predicted class, is no class is left out.

    Raises:
      TypeError: probabilities into integer counts, where they would vanish; labels or predicted classes
        that are not integers.
      ValueError: shapes do not fit together.

    >>> update(init(2), jnp.array([0, 0, 1]), jnp.array([0, 1, 1])).tolist()
    [[1, 1], [0, 1]]
    >>> update(init(2, jnp.float32), jnp.array([1]), jnp.array([[0.25, 0.75]])).tolist()
    [[0.0, 0.0], [0.25, 0.75]]
    """
    labels, predictions = jnp.asarray(labels), jnp.asarray(predictions)
    if isinstance(counts, TopConfusions):
        num_rows = num_classes = counts.errors.size
        dtype = counts.values.dtype
    else:
        (num_rows, num_classes), dtype = counts.shape, counts.dtype
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    kept = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where, bool)
    kept &= (labels >= 0) & (labels < num_rows)
    rows = jnp.where(kept, labels, 0)
    if predictions.ndim == 2:
        if predictions.shape != (*labels.shape, num_classes):
            raise ValueError(f"predictions: shape {predictions.shape} does not fit {num_classes} classes")
        if not jnp.issubdtype(predictions.dtype, jnp.floating):
            raise TypeError(f"predictions: probabilities are floating, not {predictions.dtype}")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"counts: {dtype} cannot hold probabilities; use init(C, jnp.float32)")
        if isinstance(counts, TopConfusions):
            return top_confusions.add_probabilities(counts, labels, predictions, kept)
        return counts.at[rows].add(jnp.where(kept[:, None], predictions, 0).astype(counts.dtype))
    if predictions.shape != labels.shape:
        raise ValueError(f"predictions: shape {predictions.shape} does not fit labels {labels.shape}")
    if not jnp.issubdtype(predictions.dtype, jnp.integer):
        raise TypeError(f"predictions: classes are integers, not {predictions.dtype}")
    kept &= (predictions >= 0) & (predictions < num_classes)
    if isinstance(counts, TopConfusions):
        return top_confusions.add_predictions(counts, labels, predictions, kept)
    if counts.size > jnp.iinfo(jnp.int32).max:
        rows, columns = jnp.where(kept, rows, 0), jnp.where(kept, predictions, 0)
        return counts.at[rows, columns].add(kept.astype(counts.dtype))
    # One index a cell: with two, XLA's scatter takes several times as long on a CPU.
    cells = rows.astype(jnp.int32) * num_classes + predictions.astype(jnp.int32)
    flat = counts.ravel().at[jnp.where(kept, cells, counts.size)].add(1, mode="drop")
    return flat.reshape(counts.shape)


def class_weights(
    counts: Num[Array, "classes classes"] | TopConfusions,
    *,
    mode: str = "rate",
    beta: float | jax.Array = 1.0,
    smoothing: float | jax.Array = 1.0,
    normalize: bool = True,
) -> Float[Array, " classes"]:
    r"""Weight of each class from how often its images are misclassified, W_i = 1 − P[i, i].

    .. math:: w_i = W_i \ (\text{rate}), \qquad w_i = 1 + \beta W_i \ (\text{one\_plus\_rate})

    Args:
      counts: (C, C) or `TopConfusions`, hard or soft.
      mode: `"rate"` (the paper) or `"one_plus_rate"`, in which a class that is never wrong keeps its
        gradient.
      beta: the β above.
      smoothing: s ≥ 0, in images: how strongly a class is pulled towards the average class.
      normalize: rescale to a mean of 1 over the classes, so that the learning rate keeps its meaning.

    Returns:
      (C,) float32, finite and not negative. No errors at all: ones if normalised, else zeros for `"rate"`.

    Raises:
      ValueError: an unknown mode.

    >>> counts = jnp.array([[8, 2], [0, 10]])
    >>> [round(float(w), 4) for w in class_weights(counts, smoothing=0.0, normalize=False)]
    [0.2, 0.0]
    >>> class_weights(counts, smoothing=0.0).tolist()
    [2.0, 0.0]

    Source: Zhao and Peng (2018), weighted softmax; one_plus_rate and the rescaling are this library's.
    """
    rates = _error_rates(counts, smoothing)[0]
    if mode == "rate":
        weights = rates
    elif mode == "one_plus_rate":
        weights = 1 + beta * rates
    else:
        raise ValueError(f"mode: {mode!r} is unknown; choose rate or one_plus_rate")
    if not normalize:
        return weights
    mean = weights.mean()
    return jnp.where(mean > 0, weights / jnp.where(mean > 0, mean, 1), 1)


def pair_weights(
    counts: Num[Array, "classes classes"] | TopConfusions,
    *,
    smoothing: float | jax.Array = 1.0,
    symmetric: bool = False,
) -> Float[Array, "classes classes"] | TopPairWeights:
    r"""How confusing each ordered pair of classes is, as shares of all confusion.

    .. math:: A_{ij} = P_{ij} / \sum_{k \ne l} P_{kl} \ (i \ne j), \qquad A_{ii} = 0

    Args:
      counts: (C, C) or `TopConfusions`, hard or soft.
      smoothing: s ≥ 0, in images.
      symmetric: (A + Aᵀ) / 2, so that a pair counts the same both ways; of (C, C) counts only.

    Returns:
      (C, C) float32, not negative, zero diagonal, sum 1; uniform off the diagonal where there are no errors.
      For `TopConfusions` the same as `TopPairWeights`, rows summing to exactly what they sum to in the
      matrix, errors that no counter holds spread evenly over the row.

    Raises:
      ValueError: `symmetric` of `TopConfusions`: a class may be the wrong answer of all others.

    >>> pair_weights(jnp.array([[8, 2, 0], [6, 4, 0], [0, 0, 9]]), smoothing=0.0).tolist()
    [[0.0, 0.25, 0.0], [0.75, 0.0, 0.0], [0.0, 0.0, 0.0]]

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    if isinstance(counts, TopConfusions):
        if symmetric:
            raise ValueError("symmetric: of the K wrong answers of each class no transpose is kept")
        return top_confusions.top_pair_weights(counts, _error_rates(counts, smoothing)[1], smoothing)
    counts = jnp.asarray(counts)
    num_classes = counts.shape[0]
    _, mean_error, row_sums = _error_rates(counts, smoothing)
    off_diagonal = ~jnp.eye(num_classes, dtype=bool)
    neighbour = mean_error / max(num_classes - 1, 1)
    denominators = (row_sums + smoothing)[:, None]
    seen = denominators > 0
    shares = (counts.astype(jnp.float32) + smoothing * neighbour) / jnp.where(seen, denominators, 1)
    shares = jnp.where(off_diagonal, jnp.where(seen, shares, neighbour), 0)
    if symmetric:
        shares = (shares + shares.T) / 2
    total = shares.sum()
    uniform = off_diagonal / jnp.float32(max(num_classes * (num_classes - 1), 1))
    return jnp.where(total > 0, shares / jnp.where(total > 0, total, 1), uniform)


def triplet_quota(
    pair_weights: Float[Array, "classes classes"], num_triplets: int | jax.Array
) -> Int[Array, "classes classes"]:
    r"""Number of triplets for each ordered pair of classes, N_ij ∝ A_ij by largest remainder.

    .. math:: N_{ij} = \lfloor N A_{ij} \rfloor + [\text{its remainder is among the largest}],
              \qquad \sum_{ij} N_{ij} = N

    Args:
      pair_weights: A; rescaled to sum 1.
      num_triplets: N, at most 2^24 or so (shares are float32).

    Returns:
      (C, C) int32 with sum N; ties go to the pair that comes first, none to a pair of weight 0. All zeros
      if all weights are.

    Raises:
      TypeError: `TopPairWeights`: their quota is a matrix as large as they avoid; draw instead.

    >>> triplet_quota(jnp.array([[0.0, 0.5], [0.5, 0.0]]), 5).tolist()
    [[0, 3], [2, 0]]

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    if isinstance(pair_weights, TopPairWeights):
        raise TypeError("pair_weights: a quota is (C, C); of TopPairWeights draw with sample_triplets")
    weights = jnp.asarray(pair_weights, jnp.float32).ravel()
    total = weights.sum()
    exact = num_triplets * (weights / jnp.where(total > 0, total, 1))
    quota = jnp.floor(exact).astype(jnp.int32)
    remainder = exact - quota
    missing = jnp.where(total > 0, num_triplets - quota.sum(), 0)
    up = _rank(jnp.where(weights > 0, -remainder, 1))
    # Rounded shares may carry the floors past N by a few: those give back what they have.
    down = _rank(jnp.where(quota > 0, remainder, 1))
    pairs = jnp.maximum((weights > 0).sum(), 1)
    added = jnp.where(weights > 0, missing // pairs + (up < missing % pairs), 0)
    quota += jnp.where(missing >= 0, added, -(down < -missing).astype(added.dtype)).astype(jnp.int32)
    return quota.reshape(pair_weights.shape)


def reduce(
    counts: Num[Array, "classes classes"] | TopConfusions, axis_name: str | tuple[str, ...]
) -> Num[Array, "classes classes"] | TopConfusions:
    """Sum of the counts of all devices along `axis_name`, for code under pmap or shard_map.

    `TopConfusions` are merged, within the bound that each device's have.

    >>> on_devices = jnp.ones((3, 2, 2), int)
    >>> jax.vmap(lambda counts: reduce(counts, "data"), axis_name="data")(on_devices)[0].tolist()
    [[3, 3], [3, 3]]
    """
    if isinstance(counts, TopConfusions):
        return top_confusions.reduce_top(counts, axis_name)
    return jax.lax.psum(counts, axis_name)


def _rank(values: jax.Array) -> jax.Array:
    """Place of each value in ascending order, the first of equals first."""
    order = jnp.argsort(values, stable=True)
    return jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=order.dtype))


def _sums(counts: jax.Array | TopConfusions) -> tuple[jax.Array, jax.Array]:
    """Errors and images of each class, (C,) float32; errors are summed, not taken from 1 − P."""
    if isinstance(counts, TopConfusions):
        errors = counts.errors
        return errors.astype(jnp.float32), (errors + counts.correct).astype(jnp.float32)
    counts = jnp.asarray(counts)
    num_classes = counts.shape[0]
    if counts.shape != (num_classes, num_classes):
        raise ValueError(f"counts: shape {counts.shape} is not square")
    errors = jnp.where(jnp.eye(num_classes, dtype=bool), 0, counts).sum(axis=1)
    return errors.astype(jnp.float32), counts.sum(axis=1).astype(jnp.float32)


def _error_rates(
    counts: jax.Array | TopConfusions, smoothing: float | jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Smoothed rates W (C,), mean row error ē (), row sums (C,)."""
    errors, row_sums = _sums(counts)
    seen = row_sums > 0
    number_seen = seen.sum()
    row_errors = errors / jnp.where(seen, row_sums, 1)
    mean_error = jnp.where(
        number_seen > 0,
        jnp.where(seen, row_errors, 0).sum() / jnp.maximum(number_seen, 1),
        1 - 1 / row_sums.size,
    ).astype(jnp.float32)
    denominators = row_sums + smoothing
    has_rate = denominators > 0
    rates = jnp.where(
        has_rate, (errors + smoothing * mean_error) / jnp.where(has_rate, denominators, 1), mean_error
    )
    return rates.astype(jnp.float32), mean_error, row_sums
