"""The order of an epoch's images, decided on the host: batches in which confusing classes meet.

A plan is a pure function of (seed, epoch, labels, weights): every host computes the same one and reads its
slice, and a run resumes in the middle of an epoch by computing it again.

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image
Classification", MMM 2018; the composition of batches is this library's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cdml_jax.confusion import PairWeights, as_pair_weights
from cdml_jax.sampling.groups import draw_groups

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Integer

_STREAM, _GROUPS = 1, 2  # purposes: first word after the seed of every key


def plan_epoch(
    seed: int,
    epoch: int,
    labels: Integer[np.ndarray, " images"],
    class_weights: Float[Array, " classes"],
    pair_weights: Float[Array, "classes classes"] | PairWeights,
    *,
    batch_size: int,
    composed: float,
    images_per_class: int,
    classes_per_group: int = 4,
) -> Int[np.ndarray, "steps batch"]:
    r"""Dataset indices of each batch of an epoch: composed groups first, then the uniform stream.

    A share `composed` of each batch is made of groups: an anchor class drawn ∝ W, `classes_per_group` − 1
    other classes drawn ∝ A[anchor, ·] without replacement, `images_per_class` images of each. The rest is
    the uniform stream: permutations of the data set keyed (seed, k), one after another, walked on from
    epoch to epoch, so that every image returns once in about 1 / (1 − composed) epochs.

    Args:
      seed: of all draws; not negative.
      epoch: from 0.
      labels: class of each image of the split, from 0.
      class_weights: the rates W (C,), not negative, of any scale; all zero means uniform.
      pair_weights: A (C, C), not negative, of any scale; the diagonal is ignored. Or `TopPairWeights`, with
        the same law of the groups and without a matrix.
      batch_size: B, of the global batch.
      composed: ρ in [0, 1]; 0 is plain shuffling.
      images_per_class: K. A class with fewer images, or fewer that are not in the batch yet, gives what it
        has, and the stream fills the rows.
      classes_per_group: of them one is the anchor. The last group of a batch is smaller where that is what
        fits; a class left without a confusing one is left to the stream.

    Returns:
      (steps, B) int32, steps = ⌈n / B⌉. No batch holds an image twice: one that the stream would repeat
      waits for the next batch.

    Raises:
      ValueError: a batch larger than the data set, a share outside [0, 1], shapes that do not fit.

    >>> plan = plan_epoch(
    ...     0, 0, np.arange(6) % 3, np.ones(3), np.ones((3, 3)),
    ...     batch_size=4, composed=0.0, images_per_class=2,
    ... )
    >>> plan.shape, sorted(set(plan.ravel().tolist()))
    ((2, 4), [0, 1, 2, 3, 4, 5])

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    labels = np.asarray(labels)
    rates, pairs, present = _present_weights(labels, class_weights, pair_weights)
    layout = _layout(labels.size, batch_size, composed, images_per_class, classes_per_group)
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed {seed} and epoch {epoch} must not be negative")
    steps = -(-labels.size // batch_size)
    slices = _stream_slices(seed, labels.size, layout.stream, epoch * steps, steps)  # (steps, stream)
    if not layout.group_sizes:
        return slices.astype(np.int32)

    draws = np.random.default_rng([seed, _GROUPS, epoch])
    # (steps, classes of all groups), −1 where a group is smaller.
    classes = np.concatenate(
        [draw_groups(draws, rates, pairs, present, steps, size) for size in layout.group_sizes], axis=1
    )
    # Images sorted by class: those of class i are by_class[starts[i] : starts[i + 1]].
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], np.arange(rates.size + 1))
    later = _stream_from(seed, labels.size, layout.stream, (epoch + 1) * steps)
    waiting: list[int] = []  # images that the stream gave while they were in the batch already
    plan = np.empty((steps, batch_size), np.int32)
    in_batch = np.zeros(labels.size, bool)
    for step in range(steps):
        in_batch[:] = False
        in_batch[slices[step]] = True
        rows: list[int] = []
        # The groups: images_per_class images of each class that are not in the batch yet.
        for of_class in classes[step]:
            members = by_class[starts[of_class] : starts[of_class + 1]] if of_class >= 0 else by_class[:0]
            members = members[~in_batch[members]]
            taken = members[np.argsort(draws.random(members.size), kind="stable")[:images_per_class]]
            in_batch[taken] = True
            rows.extend(taken.tolist())
        # What the groups left empty: from those that wait, else from the stream of later epochs.
        while len(rows) < batch_size - layout.stream:
            place = next((i for i, image in enumerate(waiting) if not in_batch[image]), None)
            image = next(later) if place is None else waiting.pop(place)
            if in_batch[image]:
                waiting.append(image)
            else:
                in_batch[image] = True
                rows.append(image)
        plan[step] = np.concatenate([rows, slices[step]])
    return plan


def expected_class_shares(
    labels: Integer[np.ndarray, " images"],
    class_weights: Float[Array, " classes"],
    pair_weights: Float[Array, "classes classes"] | PairWeights,
    *,
    batch_size: int,
    composed: float,
    images_per_class: int,
    classes_per_group: int = 4,
) -> Float[np.ndarray, " classes"]:
    r"""Share q of each class that a plan of these arguments is expected to hold.

    .. math:: B q_i = U \pi_i + \sum_{groups} \Pr(i \in group) \min(K, n_i) + (\text{rows left}) \, \pi_i

    where π is the data's class shares and U the rows of the stream. The probability that a class joins a
    group of three or more is Rosén's approximation for successive sampling, within a few per cent.

    Args:
      as `plan_epoch`.

    Returns:
      (C,) float64, sum 1.

    >>> expected_class_shares(
    ...     np.array([0, 0, 0, 1]), np.ones(2), np.ones((2, 2)), batch_size=4, composed=1.0,
    ...     images_per_class=1, classes_per_group=2,
    ... ).tolist()
    [0.5, 0.5]

    Source: Rosén, "Asymptotic theory for successive sampling", Ann. Math. Statist. 43 (1972).
    """
    labels = np.asarray(labels)
    rates, pairs, present = _present_weights(labels, class_weights, pair_weights)
    layout = _layout(labels.size, batch_size, composed, images_per_class, classes_per_group)
    images = np.bincount(labels, minlength=rates.size)
    anchors = rates / rates.sum()
    groups = np.zeros(rates.size)
    for size in sorted(set(layout.group_sizes)):
        others = pairs.joined(anchors, size - 1, present)
        groups += layout.group_sizes.count(size) * (anchors + others)
    rows = groups * np.minimum(images_per_class, images)
    return (rows + (batch_size - rows.sum()) * images / labels.size) / batch_size


def composition_correction(
    labels: Integer[np.ndarray, " images"], shares: Float[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    r"""Factor of each class's weight that undoes how often a composed plan shows it, π_i / q_i.

    Without it, hard classes would weigh more by being shown more, and once more by their class weight.

    Args:
      labels: class of each image of the split.
      shares: q, from `expected_class_shares`.

    Returns:
      (C,) float64; 1 for a class with no image.

    >>> composition_correction(np.array([0, 0, 0, 1]), np.array([0.5, 0.5])).tolist()
    [1.5, 0.5]
    """
    images = np.bincount(labels, minlength=shares.size)
    present = images > 0
    return np.where(present, images / labels.size / np.where(present, shares, 1), 1.0)


class _Layout(NamedTuple):
    stream: int  # rows of each batch that the stream gives in any case
    group_sizes: tuple[int, ...]  # classes in each group


def _layout(images: int, batch_size: int, composed: float, per_class: int, per_group: int) -> _Layout:
    if not 1 <= batch_size <= images:
        raise ValueError(f"batch_size {batch_size} must be from 1 to the number of images, {images}")
    if not 0 <= composed <= 1:
        raise ValueError(f"composed {composed} is a share of the batch, from 0 to 1")
    if per_class < 1 or per_group < 1:
        raise ValueError(f"images_per_class {per_class} and classes_per_group {per_group} must be positive")
    classes = round(composed * batch_size) // per_class
    groups, rest = divmod(classes, per_group)
    sizes = (per_group,) * groups + ((rest,) if rest > 1 else ())
    return _Layout(batch_size - per_class * sum(sizes), sizes)


def _present_weights(
    labels: np.ndarray, class_weights: Any, pair_weights: Any
) -> tuple[np.ndarray, PairWeights, np.ndarray]:
    """Rates, uniform where all are 0 and 0 for classes without images; pair weights; classes with images."""
    rates = np.array(class_weights, np.float64)
    pairs = as_pair_weights(pair_weights).on_host()
    shape = pairs.shape
    if rates.ndim != 1 or shape != (rates.size, rates.size):
        raise ValueError(f"class_weights {rates.shape} and pair_weights {shape} do not fit together")
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: one integer an image, not {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= rates.size:
        raise ValueError(
            f"labels reach from {labels.min()} to {labels.max()}; there are {rates.size} classes"
        )
    if not (np.isfinite(rates).all() and (rates >= 0).all() and pairs.is_law()):
        raise ValueError("class_weights and pair_weights must be finite and not negative")
    present = np.bincount(labels, minlength=rates.size) > 0
    rates = rates * present
    return (rates if rates.sum() > 0 else present.astype(np.float64)), pairs, present


def _permutation(seed: int, images: int, k: int) -> np.ndarray:
    return np.random.default_rng([seed, _STREAM, k]).permutation(images)


def _permutations(seed: int, images: int, rows: int, k: int) -> Iterator[np.ndarray]:
    """Permutations k, k + 1, … of the stream, none of which repeats an image within a row of the stream.

    Where a row begins in one permutation and ends in the next, images of its first part are moved in the
    next permutation to just behind that row.
    """
    # Long permutations are mended at their beginning only, so the end of the one before is as drawn.
    start = k - 1 if images >= 2 * rows and k > 0 else 0
    before = _permutation(seed, images, start)
    if start == k:
        yield before
    for number in range(start + 1, 1 << 62):
        permutation = _permutation(seed, images, number)
        shared = number * images % rows
        if shared:
            waits = np.isin(permutation, before[images - shared :])
            head = np.flatnonzero(~waits)[: rows - shared]
            late = waits[: head[-1] + 1].nonzero()[0]
            rest = np.arange(head[-1] + 1, images)
            permutation = permutation[np.concatenate([head, late, rest])]
        if number >= k:
            yield permutation
        before = permutation


def _stream_from(seed: int, images: int, rows: int, first: int) -> Iterator[int]:
    """Images of the stream from its row `first` on, without end."""
    rows = max(rows, 1)
    k, offset = divmod(first * rows, images)
    for permutation in _permutations(seed, images, rows, k):
        yield from permutation[offset:].tolist()
        offset = 0


def _stream_slices(seed: int, images: int, rows: int, first: int, number: int) -> np.ndarray:
    """(number, rows): that many rows of the stream, from its row `first` on."""
    if rows == 0:
        return np.empty((number, 0), np.int64)
    k, offset = divmod(first * rows, images)
    pieces, missing = [], number * rows
    for permutation in _permutations(seed, images, rows, k):
        pieces.append(permutation[offset : offset + missing])
        missing -= pieces[-1].size
        offset = 0
        if missing == 0:
            break
    return np.concatenate(pieces).reshape(number, rows)
