"""The functions of the package, for arrays (C, C) and for `TopConfusions` alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from cdml_jax.confusion.counts import DenseConfusion, counting_dtype
from cdml_jax.confusion.forms import as_confusion
from cdml_jax.confusion.labels import class_labels, saturated
from cdml_jax.confusion.top import TopConfusions
from cdml_jax.confusion.top_pairs import TopPairWeights

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Integer, Num


def init(num_classes: int, dtype: Any = jnp.int32) -> Num[Array, "classes classes"]:
    """Empty counts: (C, C) zeros, int32 for hard counts, float32 for soft or decayed ones.

    int32 counts stop just below 2³¹: they do not wrap around. float32 has 24 bits: a count that has reached
    2²⁴ = 16,777,216 no longer grows by 1, and before that the probabilities added to it lose digits, while
    the smaller counts of its row still grow, so that the error rate drifts upward. Begin with empty counts
    in each epoch and keep `decay * kept + counts` of them; or count in float64, under `jax.enable_x64`.

    Raises:
      TypeError: a dtype that holds less than float32, such as bfloat16, which cannot count beyond 256.

    >>> init(2).tolist()
    [[0, 0], [0, 0]]
    """
    return jnp.zeros((num_classes, num_classes), counting_dtype(dtype))


def update(
    counts: Num[Array, "rows classes"] | TopConfusions,
    labels: Integer[Array, " batch"],
    predictions: Integer[Array, " batch"] | Float[Array, "batch classes"],
    *,
    where: Bool[Array, " batch"] | None = None,
) -> Num[Array, "rows classes"] | TopConfusions:
    """Counts with a batch added: counts[y_b, ŷ_b] += 1, or counts[y_b, :] += p_b.

    Args:
      counts: as `init` or `init_top` gives; integer or floating. A matrix may be the first rows alone of a
        larger one: rows of other labels are left out.
      labels: true class of each row, from 0.
      predictions: predicted classes (batch,), integers, or probabilities (batch, C), floating.
      where: rows that count; the others may hold anything.

    Returns:
      Counts of the same kind and dtype. A row is left out if its label or its predicted class
      is not one of the classes. Probabilities that are not finite add nothing, so a row of NaN is left out
      too. `init` says what float32 and int32 can hold.

    Raises:
      TypeError: probabilities into integer counts, where they would vanish; labels or predicted classes
        that are not integers; counts of a dtype that `init` refuses.
      ValueError: shapes do not fit together.

    >>> update(init(2), jnp.array([0, 0, 1]), jnp.array([0, 1, 1])).tolist()
    [[1, 1], [0, 1]]
    >>> update(init(2, jnp.float32), jnp.array([1]), jnp.array([[0.25, 0.75]])).tolist()
    [[0.0, 0.0], [0.25, 0.75]]
    """
    form = _counters(counts)
    labels, predictions = class_labels(labels), class_labels(predictions)
    counting_dtype(form.dtype)
    num_classes = form.num_classes
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    kept = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where, bool)
    kept &= (labels >= 0) & (labels < form.num_rows)
    if predictions.ndim == 2:
        if predictions.shape != (*labels.shape, num_classes):
            raise ValueError(f"predictions: shape {predictions.shape} does not fit {num_classes} classes")
        if not jnp.issubdtype(predictions.dtype, jnp.floating):
            raise TypeError(f"predictions: probabilities are floating, not {predictions.dtype}")
        if not jnp.issubdtype(form.dtype, jnp.floating):
            raise TypeError(f"counts: {form.dtype} cannot hold probabilities; use init(C, jnp.float32)")
        added: Any = form.add_probabilities(labels, predictions, kept)
    else:
        if predictions.shape != labels.shape:
            raise ValueError(f"predictions: shape {predictions.shape} does not fit labels {labels.shape}")
        if not jnp.issubdtype(predictions.dtype, jnp.integer):
            raise TypeError(f"predictions: classes are integers, not {predictions.dtype}")
        kept &= (predictions >= 0) & (predictions < num_classes)
        added = form.add_predictions(labels, predictions, kept)
    return added.arrays


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
      counts: (C, C), of any dtype, or `TopConfusions`, hard or soft.
      mode: `"rate"` (the paper) or `"one_plus_rate"`, in which a class that is never wrong keeps its
        gradient.
      beta: the β above.
      smoothing: s ≥ 0, in images: how strongly a class is pulled towards the average class.
      normalize: rescale to a mean of 1 over the classes, so that the learning rate keeps its meaning.

    Returns:
      (C,) float32, finite and not negative. No errors at all: ones if normalised, else zeros for `"rate"`.
      Only counts that are not finite themselves give NaN.

    Raises:
      ValueError: an unknown mode.

    >>> counts = jnp.array([[8, 2], [0, 10]])
    >>> [round(float(w), 4) for w in class_weights(counts, smoothing=0.0, normalize=False)]
    [0.2, 0.0]
    >>> class_weights(counts, smoothing=0.0).tolist()
    [2.0, 0.0]

    Source: Zhao and Peng (2018), weighted softmax; one_plus_rate and the rescaling are this library's.
    """
    return as_confusion(counts).class_weights(mode=mode, beta=beta, smoothing=smoothing, normalize=normalize)


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
    return as_confusion(counts).pair_weights(smoothing=smoothing, symmetric=symmetric).arrays


def reduce(
    counts: Num[Array, "classes classes"] | TopConfusions, axis_name: str | tuple[str, ...]
) -> Num[Array, "classes classes"] | TopConfusions:
    """Sum of the counts of all devices along `axis_name`, for code under pmap or shard_map.

    `TopConfusions` are merged, within the bound that each device's have.

    >>> on_devices = jnp.ones((3, 2, 2), int)
    >>> jax.vmap(lambda counts: reduce(counts, "data"), axis_name="data")(on_devices)[0].tolist()
    [[3, 3], [3, 3]]
    """
    return _counters(counts).reduced(axis_name).arrays


def _counters(counts: Any) -> DenseConfusion | TopConfusions:
    return counts if isinstance(counts, TopConfusions) else DenseConfusion(saturated(counts))
