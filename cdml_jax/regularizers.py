"""Terms of other systems that stand next to a softmax, as values of a pair or a row.

As in `losses`, nothing here reduces, but for `soft_mined_contrastive_loss`, whose pairs share their weights;
values are float32 or wider, and rows where `where` is false may hold anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from cdml_jax.confusion.labels import check_labels, class_labels
from cdml_jax.system.maxima import largest_along

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray


def pairwise_confusion(
    logits: Float[Array, "batch classes"],
    labels: Integer[Array, " batch"],
    *,
    where: Bool[Array, " batch"] | None = None,
) -> tuple[Float[Array, " pairs"], Bool[Array, " pairs"]]:
    r"""Squared distance of the probabilities of images of two classes, row i with row i + B/2.

    .. math:: \ell_i = \|p_i - p_{i + B/2}\|^2, \quad p = \mathrm{softmax}(f), \quad 0 \le \ell_i \le 2

    Minimised, it pulls the outputs for images of different classes together and so limits confidence. The
    paper adds λ (2/B) Σ_i v_i ℓ_i to the softmax; in its README's units λ is 0.1 C to 0.2 C, here half of it.

    Args:
      logits: scores of the classes.
      labels: class of each row.
      where: rows that count; the others may hold anything and give 0 with zero gradients.

    Returns:
      ℓ, (batch // 2,), float32 or wider, and v: whether both rows count and differ in class. ℓ is 0 where v
      is false. The last row of an odd batch is in no pair.

    Raises:
      TypeError: labels are not integers.
      ValueError: labels do not fit logits.

    >>> logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1]]))
    >>> values, valid = pairwise_confusion(logits, jnp.array([0, 1, 1, 1]))
    >>> values.round(4).tolist(), valid.tolist()
    ([0.3799999952316284, 0.0], [True, False])

    Source: Dubey, Gupta, Guo, Raskar, Farrell and Naik, "Pairwise Confusion for Fine-Grained Visual
    Classification", ECCV 2018, equation of Euclidean confusion.
    """
    logits, labels = jnp.asarray(logits), class_labels(labels)
    check_labels(labels, "logits", logits, where=where)
    first, second, valid = halves(labels, where=where)
    return probability_distances(logits, first, second, valid), valid


def halves(
    labels: Integer[Array, " batch"], *, where: Bool[Array, " batch"] | None = None
) -> tuple[Int[Array, " pairs"], Int[Array, " pairs"], Bool[Array, " pairs"]]:
    """Rows i and i + B/2, and whether both count and differ in class.

    Where a batch is taken apart into microbatches of every n-th row, and B/2 is a multiple of n, the halves
    of the microbatches are the halves of the batch.

    >>> [part.tolist() for part in halves(jnp.array([0, 1, 1, 1]))]
    [[0, 1], [2, 3], [True, False]]
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: classes are integers, not {labels.dtype}")
    half = labels.shape[0] // 2
    real = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where, bool)
    first = jnp.arange(half, dtype=jnp.int32)
    second = first + half
    valid = (labels[:half] != labels[half : 2 * half]) & real[:half] & real[half : 2 * half]
    return first, second, valid


def probability_distances(
    logits: Float[Array, "batch classes"],
    first: Int[Array, " pairs"],
    second: Int[Array, " pairs"],
    valid: Bool[Array, " pairs"],
) -> Float[Array, " pairs"]:
    """Squared distance of the softmax of two rows, for each pair; 0 with zero gradients where not valid."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # Masked before the softmax: the derivative of a softmax of NaN is NaN, whatever it is multiplied by.
    one, other = (jax.nn.softmax(jnp.where(valid[:, None], logits[rows], 0)) for rows in (first, second))
    return jnp.sum((one - other) ** 2, axis=1)


def mutual_channel_loss(
    key: PRNGKeyArray,
    feature_map: Float[Array, "batch height width channels"],
    labels: Integer[Array, " batch"],
    *,
    num_classes: int,
    where: Bool[Array, " batch"] | None = None,
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    r"""Channels that belong to classes: each class's are to tell it, and to look at different places.

    .. math:: s_{bc} = \frac 1 P \sum_p \max_{k \in c} M_k F_{bpk}, \qquad
              h_{bc} = \frac 1 {\xi_c} \sum_p \max_{k \in c} \mathrm{softmax}_p(F_{b \cdot k})_p

    for maps F of P positions, ξ_c channels of class c, and a mask M that leaves out ⌊ξ_c / 2⌋ channels of
    each class. Discriminality is the cross-entropy of softmax(s), diversity the mean of h over the classes,
    from 1 / ξ to 1. The paper adds μ (discriminality − λ diversity) to the softmax.

    The first channels are those of class 0, and so on. Of N channels the first C − N mod C classes own
    ⌊N / C⌋ each, the others one more.

    Args:
      key: of the mask, one for the whole batch.
      feature_map: the last map before pooling, after a ReLU in the paper.
      labels: class of each row.
      num_classes: C.
      where: rows that count; the others may hold anything and give 0 with zero gradients.

    Returns:
      Discriminality and diversity, (batch,) each, float32 or wider.

    Raises:
      TypeError: labels are not integers.
      ValueError: labels do not fit the map, or a class would own fewer than two channels.

    >>> of_channels = jnp.log(jnp.array([[1.0, 3.0], [3.0, 1.0], [1.0, 1.0], [1.0, 1.0]]))
    >>> _, diversity = mutual_channel_loss(
    ...     jax.random.key(0), of_channels.T.reshape(1, 1, 2, 4), jnp.array([0]), num_classes=2
    ... )
    >>> diversity.round(4).tolist()
    [0.625]

    Source: Chang, Ding, Xie, Bhunia, Li, Ma, Wu, Guo and Song, "The Devil is in the Channels: Mutual-Channel
    Loss for Fine-Grained Image Classification", IEEE TIP 2020.
    """
    feature_map, labels = jnp.asarray(feature_map), class_labels(labels)
    check_labels(labels, "a map of shape", feature_map, ndim=4, where=where)
    batch, height, width, channels = feature_map.shape
    real = jnp.ones(batch, bool) if where is None else jnp.asarray(where, bool)
    maps = feature_map.astype(jnp.promote_types(feature_map.dtype, jnp.float32))
    maps = jnp.where(real[:, None, None], maps.reshape(batch, height * width, channels), 0)
    kept = kept_channels(key, channels, num_classes=num_classes).astype(maps.dtype)
    attention = jax.nn.softmax(maps, axis=1)
    scores, spread, start = [], [], 0
    for classes, size in channel_groups(channels, num_classes):
        own = slice(start, start + classes * size)
        of_class = (batch, height * width, classes, size)
        scores.append(largest_along((kept[own] * maps[..., own]).reshape(of_class), -1).mean(axis=1))
        spread.append(largest_along(attention[..., own].reshape(of_class), -1).sum(axis=1) / size)
        start = own.stop
    log_probabilities = jax.nn.log_softmax(jnp.concatenate(scores, axis=1))
    own_class = jnp.where(real, labels, 0)[:, None]
    discriminality = -jnp.take_along_axis(log_probabilities, own_class, axis=1)[:, 0]
    diversity = jnp.concatenate(spread, axis=1).mean(axis=1)
    return jnp.where(real, discriminality, 0), jnp.where(real, diversity, 0)


def channel_groups(channels: int, num_classes: int) -> tuple[tuple[int, int], ...]:
    """How many classes own how many channels each, in their order; classes of one size are a group.

    Raises:
      ValueError: a class would own fewer than two.

    >>> channel_groups(2048, 200)
    ((152, 10), (48, 11))
    """
    size, larger = divmod(channels, max(num_classes, 1))
    if size < 2 or num_classes < 1:
        raise ValueError(
            f"feature_map: {channels} channels are fewer than two for each of {num_classes} classes"
        )
    return tuple(group for group in ((num_classes - larger, size), (larger, size + 1)) if group[0])


def kept_channels(key: PRNGKeyArray, channels: int, *, num_classes: int) -> Bool[Array, " channels"]:
    """Channels that a mask leaves: of each class's ξ all but ⌊ξ / 2⌋, drawn uniformly.

    >>> kept_channels(jax.random.key(0), 8, num_classes=2).reshape(2, 4).sum(axis=1).tolist()
    [2, 2]
    """
    noise, kept, start = jax.random.uniform(key, (channels,)), [], 0
    for classes, size in channel_groups(channels, num_classes):
        own = noise[start : start + classes * size].reshape(classes, size)
        # A channel's place among its class's, by comparison: to sort takes a compiler longer.
        before = own[:, :, None] > own[:, None, :]
        earlier = jnp.tril(jnp.ones((size, size), bool), -1)
        before |= (own[:, :, None] == own[:, None, :]) & earlier
        kept.append(before.sum(axis=2) < size - size // 2)
        start += classes * size
    return jnp.concatenate([group.ravel() for group in kept])


def class_aware_attention(
    logits: Float[Array, "batch classes"], labels: Integer[Array, " batch"], *, width: float = 0.68
) -> Float[Array, " batch"]:
    r"""How well an image fits its class, by the classifier: outliers of a class get little weight.

    .. math:: a_i = \exp\left(-\frac{(1 - p_i)^2}{2 \rho^2}\right), \quad p_i = \mathrm{softmax}(f_i)_{y_i}

    Args:
      logits: scores of the classes.
      labels: class of each row; those that are not a class give some number.
      width: ρ.

    Returns:
      a, (batch,), in (0, 1], float32 or wider.

    >>> logits = jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]]))
    >>> class_aware_attention(logits, jnp.array([0, 0])).round(4).tolist()
    [0.9891999959945679, 0.6775000095367432]

    Source: Wang, Hua, Kodirov, Hu and Robertson, "Deep Metric Learning by Online Soft Mining and Class-Aware
    Attention", AAAI 2019. It asks for the compatibility of an image with its class; the form with the
    classifier's own probability is the one that needs no parameters.
    """
    logits, labels = jnp.asarray(logits), class_labels(labels)
    check_labels(labels, "logits", logits)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    own = jnp.clip(labels, 0, logits.shape[1] - 1)[:, None]
    p = jnp.exp(jnp.take_along_axis(jax.nn.log_softmax(logits), own, axis=1)[:, 0])
    return jnp.exp(-((1 - p) ** 2) / (2 * width**2))


def soft_mined_contrastive_loss(
    embeddings: Float[Array, "batch size"],
    labels: Integer[Array, " batch"],
    attention: Float[Array, " batch"],
    *,
    sigma: float = 0.8,
    margin: float = 1.2,
    where: Bool[Array, " batch"] | None = None,
) -> Float[Array, ""]:
    r"""A contrastive loss in which every pair counts, near ones more, and those of outliers less.

    .. math:: L = \frac 1 2 \left(\frac{\sum_P w^+ d^2}{2 \sum_P w^+}
              + \frac{\sum_N w^- \max(0, \alpha - d)^2}{2 \sum_N w^-}\right)

    with d the distance of two rows, P the pairs of one class and N those of two,
    w⁺ = exp(−d² / 2σ²) min(a_i, a_j) and w⁻ = max(0, α − d) min(a_i, a_j), constants in the gradient.
    A set whose weights sum to 0 gives 0. What it divides by depends on the embeddings, so of a batch taken
    apart into microbatches the mean of the microbatches' values is another number.

    Args:
      embeddings: of length 1.
      labels: class of each row.
      attention: a, such as `class_aware_attention` gives; no gradient flows into it.
      sigma: σ.
      margin: α.
      where: rows that count; the others may hold anything and change nothing. Memory is B².

    >>> rows = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> round(float(soft_mined_contrastive_loss(rows, jnp.array([0, 0, 1]), jnp.ones(3))), 4)
    0.1233

    Source: Wang, Hua, Kodirov, Hu and Robertson (AAAI 2019), with λ = 1/2.
    """
    embeddings, labels = jnp.asarray(embeddings), class_labels(labels)
    check_labels(labels, "embeddings", embeddings, attention=attention, where=where)
    embeddings = embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))
    real = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where, bool)
    embeddings = jnp.where(real[:, None], embeddings, 0)
    attention = jax.lax.stop_gradient(jnp.where(real, attention, 0))
    squares = jnp.sum(embeddings**2, axis=1)
    products = jnp.matmul(embeddings, embeddings.T, precision=jax.lax.Precision.HIGHEST)
    squared = jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    # The root is guarded on both sides of the choice: its derivative at 0 is not finite.
    distance = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    short = jnp.maximum(margin - distance, 0)
    both = real[:, None] & real[None, :] & ~jnp.eye(labels.shape[0], dtype=bool)
    same = labels[:, None] == labels[None, :]
    fits = jnp.minimum(attention[:, None], attention[None, :])

    def mean(pairs: Array, weights: Array, losses: Array) -> Array:
        weights = jax.lax.stop_gradient(jnp.where(pairs, weights * fits, 0))
        total = weights.sum()
        return (weights * losses).sum() / jnp.where(total > 0, total, 1)

    positive = mean(both & same, jnp.exp(-squared / (2 * sigma**2)), squared)
    negative = mean(both & ~same, short, short**2)
    return (positive + negative) / 4


def prediction_change(
    before: Float[Array, "batch classes"], logits: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    r"""How much the prediction of an image has changed, without looking at its label.

    .. math:: -\sum_c q_c \log p_c, \quad p = \mathrm{softmax}(f)

    Args:
      before: q, the probabilities that the network gave it before; rows of zeros give 0.
      logits: f, its scores now.

    Returns:
      (batch,), float32 or wider. Equal predictions give their entropy.

    >>> now = jnp.log(jnp.array([[0.1, 0.8, 0.1]]))
    >>> prediction_change(jnp.array([[0.7, 0.2, 0.1]]), now).round(4).tolist()
    [1.886699914932251]

    Source: Zhang, Yao, Liu et al., "Web-Supervised Network with Softly Update-Drop Training for Fine-Grained
    Visual Classification", AAAI 2020.
    """
    logits = jnp.asarray(logits)
    if logits.ndim != 2 or jnp.shape(before) != logits.shape:
        raise ValueError(f"before: shape {jnp.shape(before)} does not fit logits {logits.shape}; rows first")
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    return -jnp.sum(jnp.asarray(before).astype(log_probabilities.dtype) * log_probabilities, axis=1)
