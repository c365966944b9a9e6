"""The two costs of cost-sensitive deep metric learning, as per-example values.

Nothing here reduces: pass the values to `masked_mean`, or to any mean of your own. All functions work
under jit, vmap, grad, shard_map and pmap. Values are computed in float32, or in float64 where that is given.

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image
Classification", MultiMedia Modeling (MMM), 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from cdml_jax.confusion.labels import class_labels
from cdml_jax.sampling import sample_triplets

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray


def _at_least_float32(values: jax.Array) -> jax.Array:
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def weighted_softmax_cross_entropy(
    logits: Float[Array, "batch classes"],
    labels: Integer[Array, " batch"],
    class_weights: Float[Array, " classes"],
    *,
    label_smoothing: float | jax.Array = 0.0,
    where: Bool[Array, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Cross-entropy of each row, times the weight of its class.

    .. math:: \ell_b = -w_{y_b} \sum_j t_{bj} \log \mathrm{softmax}(f_b)_j, \qquad
              t_{bj} = (1 - \varepsilon) [j = y_b] + \varepsilon / C

    Args:
      logits: scores of the classes.
      labels: class of each row, from 0.
      class_weights: weight of each class, such as `confusion.class_weights` gives.
      label_smoothing: the ε above, in [0, 1].
      where: rows that count; the others may hold anything (NaN, labels of -1) and give 0 with zero gradients.

    Returns:
      (batch,) losses, float32 or wider; NaN for a counted row whose label is not a class.

    Raises:
      TypeError: labels are not integers.
      ValueError: shapes do not fit together.

    >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0]])
    >>> values = weighted_softmax_cross_entropy(logits, jnp.array([0, 1]), jnp.array([1.0, 3.0]))
    >>> [round(float(v), 4) for v in values]
    [0.1269, 6.3808]

    Source: Zhao and Peng (2018), weighted softmax.
    """
    logits, labels, class_weights = jnp.asarray(logits), class_labels(labels), jnp.asarray(class_weights)
    _check_rows("logits", logits, labels, where)
    if class_weights.shape != logits.shape[1:]:
        raise ValueError(f"class_weights: shape {class_weights.shape} does not fit logits {logits.shape}")
    logits = _at_least_float32(logits)
    if where is not None:
        where = jnp.asarray(where, bool)
        logits = jnp.where(where[:, None], logits, 0)
        labels = jnp.where(where, labels, 0)
    num_classes = logits.shape[1]
    is_class = (labels >= 0) & (labels < num_classes)
    column = jnp.where(is_class, labels, 0)
    over = logits - jnp.take_along_axis(logits, column[:, None], axis=1)
    # −log p_y = log(1 + Σ_{j≠y} e^{f_j − f_y}): as log1p, a confident row keeps all its digits.
    others = jnp.where(jnp.arange(num_classes, dtype=jnp.int32)[None, :] == column[:, None], -jnp.inf, over)
    largest = jax.lax.stop_gradient(jnp.maximum(others.max(axis=1), 0))
    losses = largest + jnp.log1p(jnp.exp(others - largest[:, None]).sum(axis=1) + jnp.expm1(-largest))
    losses = losses - jnp.where(label_smoothing == 0, 0, label_smoothing * over.mean(axis=1))
    losses = losses * class_weights.astype(losses.dtype)[column]
    losses = jnp.where(is_class, losses, jnp.nan)
    return losses if where is None else jnp.where(where, losses, 0)


def focal_factor(cross_entropy: Float[Array, " batch"], gamma: float | jax.Array) -> Float[Array, " batch"]:
    r"""Factor of each row's cross-entropy in the focal loss, (1 − p_y)^γ.

    .. math:: (1 - e^{-\ell_b})^\gamma

    Args:
      cross_entropy: unweighted, without label smoothing.
      gamma: γ ≥ 0; 0 gives ones and zero gradients.

    >>> focal_factor(jnp.array([0.0, 0.6931472]), 2.0).round(3).tolist()
    [0.0, 0.25]

    Source: Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", ICCV 2017.
    """
    wrong = jnp.maximum(-jnp.expm1(-cross_entropy), 1e-7)
    return jnp.where(gamma > 0, wrong ** jnp.maximum(gamma, 1e-7), 1)


def confusion_weighted_logits(
    logits: Float[Array, "batch classes"],
    labels: Integer[Array, " batch"],
    pair_weights: Float[Array, "classes classes"],
    *,
    beta: float | jax.Array = 1.0,
) -> Float[Array, "batch classes"]:
    r"""Logits whose softmax counts each wrong class by how often it is taken for the right one.

    .. math:: f_{bj} + \log(1 + \beta\, C\, A_{y_b j}), \qquad
              \ell_b = -\log \frac{e^{f_{y}}}{e^{f_y} + \sum_{j \ne y} (1 + \beta C A_{yj}) e^{f_j}}

    For training only: pass them to a cross-entropy, as `weighted_softmax_cross_entropy`; predictions are the
    plain logits'. The paper's class weight says that a class is hard; this says with what it is confused.

    Args:
      logits: scores of the classes.
      labels: class of each row, from 0; rows without a class are changed in no defined way, but stay finite.
      pair_weights: A, with a zero diagonal, such as `confusion.pair_weights` gives; sum 1, so that C A has
        the size of 1 for the average class.
      beta: the β above; 0 gives the logits back.

    Returns:
      (batch, classes), float32 or wider.

    Raises:
      ValueError: shapes do not fit together.

    >>> pairs = jnp.array([[0.0, 0.5], [0.5, 0.0]])
    >>> confusion_weighted_logits(jnp.zeros((1, 2)), jnp.array([0]), pairs, beta=2.0).round(4).tolist()
    [[0.0, 1.0986000299453735]]

    Source: ours, a per-pair form of Zhao and Peng (2018); the shape is that of logit adjustment (Menon et
    al., ICLR 2021).
    """
    logits, labels, pair_weights = jnp.asarray(logits), class_labels(labels), jnp.asarray(pair_weights)
    _check_rows("logits", logits, labels, None)
    num_classes = logits.shape[1]
    if pair_weights.shape != (num_classes, num_classes):
        raise ValueError(f"pair_weights: shape {pair_weights.shape} does not fit logits {logits.shape}")
    logits = _at_least_float32(logits)
    costs = jax.lax.stop_gradient(pair_weights.astype(logits.dtype))[jnp.clip(labels, 0, num_classes - 1)]
    return logits + jnp.log1p(beta * num_classes * costs)


def triplet_margin_loss(
    anchor: Float[Array, "triplets size"],
    positive: Float[Array, "triplets size"],
    negative: Float[Array, "triplets size"],
    *,
    margin: float | jax.Array = 0.2,
) -> Float[Array, " triplets"]:
    r"""Hinge on squared distances: how far the negative is from being `margin` farther than the positive.

    .. math:: \ell_t = \max(0, \|a_t - p_t\|^2 - \|a_t - n_t\|^2 + \alpha)

    Args:
      anchor, positive, negative: embeddings, one row a triplet; normalised or not.
      margin: the α above, in units of squared distance (at most 4 between normalised embeddings).

    Returns:
      (triplets,) losses, float32 or wider. Differences are taken before squaring, so no matrix product
      rounds them and the gradient at a = p is 0.

    Raises:
      ValueError: the three shapes differ.

    >>> a, p, n = jnp.array([[1.0, 0.0]]), jnp.array([[0.8, 0.6]]), jnp.array([[0.6, 0.8]])
    >>> round(float(triplet_margin_loss(a, p, n, margin=0.5)[0]), 4)
    0.1

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    anchor, positive, negative = jnp.asarray(anchor), jnp.asarray(positive), jnp.asarray(negative)
    if not anchor.shape == positive.shape == negative.shape:
        raise ValueError(f"triplets: shapes {anchor.shape}, {positive.shape}, {negative.shape} differ")
    return jnp.maximum(squared_distance(anchor, positive) - squared_distance(anchor, negative) + margin, 0)


def squared_distance(first: Float[Array, "*rows size"], second: Float[Array, "*rows size"]) -> Array:
    """Squared Euclidean distance ‖first − second‖² of each row, in float32 or wider.

    >>> squared_distance(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])).tolist()
    [5.0]
    """
    return jnp.sum((_at_least_float32(first) - _at_least_float32(second)) ** 2, axis=-1)


def confusion_triplet_loss(
    key: PRNGKeyArray,
    embeddings: Float[Array, "batch size"],
    labels: Integer[Array, " batch"],
    pair_weights: Float[Array, "classes classes"],
    *,
    num_triplets: int,
    margin: float | jax.Array = 0.2,
    where: Bool[Array, " batch"] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> tuple[Float[Array, " triplets"], Bool[Array, " triplets"]]:
    r"""Triplet losses of pairs of classes drawn as often as the model confuses them.

    .. math:: (i, j) \sim A, \quad a \ne p \in L_i,\ n \in L_j, \qquad
              \ell_t = \max(0, \|g_a - g_p\|^2 - \|g_a - g_n\|^2 + \alpha)

    Args:
      key: of the draws; the same on every device.
      embeddings: L2-normalised by the model.
      labels: class of each row, from 0.
      pair_weights: A, how confusing each ordered pair is, such as `confusion.pair_weights` gives.
      num_triplets: how many are drawn, with replacement.
      margin: the α above, in units of squared distance.
      where: rows that count; the others may hold anything.
      axis_name: inside pmap or shard_map, the axis over which the batch is split. The rows of all devices
        are gathered, and every device returns the same triplets of the global batch; average the
        gradients of replicated parameters with `pmean`.

    Returns:
      (triplets,) losses, 0 where not valid, and (triplets,) bool, valid. Their mean is
      `masked_mean(losses, valid)`. No triplet can be drawn from a batch that has no class of two rows
      beside a row of another class: then none is valid.

    Raises:
      TypeError, ValueError: as `sample_triplets`.

    >>> embeddings = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> labels, pair_weights = jnp.array([0, 0, 1]), jnp.array([[0.0, 0.5], [0.5, 0.0]])
    >>> losses, valid = confusion_triplet_loss(
    ...     jax.random.key(0), embeddings, labels, pair_weights, num_triplets=8
    ... )
    >>> float(losses.min()) > 0.0, bool(valid.all())
    (False, True)

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    embeddings, labels = jnp.asarray(embeddings), class_labels(labels)
    _check_rows("embeddings", embeddings, labels, where)
    embeddings = _at_least_float32(embeddings)
    if where is not None:
        where = jnp.asarray(where, bool)
        embeddings = jnp.where(where[:, None], embeddings, 0)
    if axis_name is not None:
        embeddings = jax.lax.all_gather(embeddings, axis_name, tiled=True)
        labels = jax.lax.all_gather(labels, axis_name, tiled=True)
        where = None if where is None else jax.lax.all_gather(where, axis_name, tiled=True)
    triplets = sample_triplets(key, labels, pair_weights, num_triplets=num_triplets, where=where)
    anchor, positive, negative = (embeddings[rows] for rows in triplets[:3])
    losses = triplet_margin_loss(anchor, positive, negative, margin=margin)
    losses, valid = jnp.where(triplets.valid, losses, 0), triplets.valid
    if axis_name is not None:
        # Equal on all devices already; the mean says so to shard_map, and makes the gradient of each
        # device's copy a share of the whole, so that pmean is right under pmap and shard_map alike.
        losses = jax.lax.pmean(losses, axis_name)
        valid = jax.lax.pmax(valid.astype(jnp.int8), axis_name).astype(bool)
    return losses, valid


def masked_mean(
    values: Float[Array, "*rows"],
    where: Bool[Array, "*rows"],
    *,
    axis_name: str | tuple[str, ...] | None = None,
) -> Float[Array, ""]:
    r"""Mean of the values that count; 0, with zero gradients, where none does.

    .. math:: \sum_b m_b v_b / \sum_b m_b

    Args:
      values: any shape; NaN and infinity are harmless where they do not count, in gradients too.
      where: bool, of the same shape.
      axis_name: inside pmap or shard_map, the axis over which the values are split: sums and counts cross
        devices, so the result is the mean of the global batch.

    Returns:
      A scalar, float32 or wider.

    >>> float(masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])))
    2.0
    """
    values, where = _at_least_float32(jnp.asarray(values)), jnp.asarray(where, bool)
    if values.shape != where.shape:
        raise ValueError(f"masked_mean: values {values.shape} and where {where.shape} differ in shape")
    total = jnp.sum(jnp.where(where, values, 0))
    count = jnp.sum(where, dtype=jnp.int32)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1).astype(total.dtype)


def _check_rows(name: str, rows: jax.Array, labels: jax.Array, where: jax.Array | None) -> None:
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise ValueError(f"{name}: shape {rows.shape} does not fit labels {labels.shape}; rows first")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    if where is not None and jnp.shape(where) != labels.shape:
        raise ValueError(f"where: shape {jnp.shape(where)} does not fit labels {labels.shape}")
