"""Two runs on the same images: which images only one of them gets right, and what that shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import bdtr

from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.reporting.comparison import CONFIDENCE, DRAWS, points
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.system.console import escaped

if TYPE_CHECKING:
    from jaxtyping import Bool, Integer

# With fewer images on which one run alone is right, McNemar's test gives no p below 2 / 2^5 = 0.06.
FEWEST = 6
_SHOWN = 5  # classes that gained most, and lost most


class ClassChange(NamedTuple):
    """How many of a class's images each run gets right."""

    label: int
    images: int
    right_a: int
    right_b: int

    @property
    def gain(self) -> int:
        """Images that B has more."""
        return self.right_b - self.right_a


class Paired(NamedTuple):
    """Runs A and B on the same images.

    Attributes:
      images: how many.
      both, only_a, only_b: how many are called rightly by both, by A alone, by B alone.
      low, high: ends of the interval of B's accuracy minus A's, in points, by bootstrap over images.
      p_value: of McNemar's exact test, two-sided: how likely so uneven a split of `only_a` and `only_b` is,
        or a more uneven one, where both runs are equally good.
      changes: of each class with images.
    """

    images: int
    both: int
    only_a: int
    only_b: int
    low: float
    high: float
    p_value: float
    changes: list[ClassChange]

    @property
    def difference(self) -> float:
        """B's accuracy minus A's, in points."""
        return 100.0 * (self.only_b - self.only_a) / self.images


def aligned(a: Predictions, b: Predictions, classes_a: Classes, classes_b: Classes) -> Predictions:
    """B's predictions in the order of A's images, its classes numbered as A's.

    Raises:
      UserError: they are of other images, or of other classes.
    """
    differ = set(classes_a.names) ^ set(classes_b.names)
    if differ:
        raise UserError(f"they are of other classes: only one of them has {_some(differ)}")
    if len(set(a.names)) < len(a.names) or len(set(b.names)) < len(b.names):
        raise UserError("images of one name are among them, so it cannot be known which are the same")
    differ = set(a.names) ^ set(b.names)
    if differ:
        raise UserError(
            f"they are of other images ({len(a.names):,} and {len(b.names):,}): only one of them has "
            f"{_some(differ)}"
        )
    place = {name: index for index, name in enumerate(b.names)}
    order = np.array([place[name] for name in a.names], int)
    number = {name: label for label, name in enumerate(classes_a.names)}
    labels = np.array([number[name] for name in classes_b.names], np.int32)
    found = Predictions(
        a.names,
        labels[b.labels[order]],
        labels[b.top_classes[order]],
        b.top_probabilities[order],
        b.true_probability[order],
    )
    moved = {name for name, ours, theirs in zip(a.names, a.labels, found.labels) if ours != theirs}
    if moved:
        raise UserError(f"images are of another class in one of them: {_some(moved)}")
    return found


def _some(names: set[str]) -> str:
    shown = ", ".join(map(escaped, sorted(names)[:3]))
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown


def compare_predictions(
    labels: Integer[np.ndarray, " images"],
    called_a: Integer[np.ndarray, " images"],
    called_b: Integer[np.ndarray, " images"],
) -> Paired:
    """Two runs' answers about the same images, at least one.

    The bootstrap draws as many images with replacement as there are, `DRAWS` times, by a fixed seed; the
    interval holds the middle `CONFIDENCE` of the differences. A draw of images is one of how many of them A
    alone and B alone get right, which is multinomial.

    >>> labels = np.zeros(20, int)
    >>> found = compare_predictions(labels, labels + (np.arange(20) < 10), labels + (np.arange(20) == 19))
    >>> found.only_a, found.only_b, found.both, round(found.p_value, 4), found.difference
    (1, 10, 9, 0.0117, 45.0)

    Args:
      labels: the class of each image.
      called_a, called_b: what each run called it.
    """
    right_a, right_b = called_a == labels, called_b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    number = len(labels)
    shares = np.array([only_a, only_b, number - only_a - only_b]) / number
    drawn = np.random.default_rng(0).multinomial(number, shares, DRAWS)
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(100.0 * (drawn[:, 1] - drawn[:, 0]) / number, (tail, 100.0 - tail))
    alone = only_a + only_b
    p_value = min(1.0, 2.0 * float(bdtr(min(only_a, only_b), alone, 0.5)))
    changes = _changes(labels, right_a, right_b)
    both = int((right_a & right_b).sum())
    return Paired(number, both, only_a, only_b, float(low), float(high), p_value, changes)


def _changes(
    labels: Integer[np.ndarray, " images"],
    right_a: Bool[np.ndarray, " images"],
    right_b: Bool[np.ndarray, " images"],
) -> list[ClassChange]:
    sizes = np.bincount(labels)
    of_a, of_b = (np.bincount(labels[right], minlength=len(sizes)) for right in (right_a, right_b))
    return [
        ClassChange(int(label), int(sizes[label]), int(of_a[label]), int(of_b[label]))
        for label in np.flatnonzero(sizes)
    ]


def report(found: Paired, classes: Classes) -> str:
    """The comparison in lines for a terminal."""
    right_a, right_b = found.both + found.only_a, found.both + found.only_b
    alone = found.only_a + found.only_b
    neither = found.images - found.both - alone
    shares = [
        f"{right / found.images:.2%} ({right:,} of {found.images:,} images)" for right in (right_a, right_b)
    ]
    sides = f"Right in both {found.both:,}, in A alone {found.only_a:,}, in B alone {found.only_b:,}"
    ends = f"[{points(found.low)}, {points(found.high)}]"
    interval = f"{CONFIDENCE:.0%} interval {ends} by bootstrap over images" if alone else "no interval"
    test = f"McNemar's exact test: p = {found.p_value:.2g}"
    lines = [
        f"A: top-1 {shares[0]}",
        f"B: top-1 {shares[1]}",
        f"{sides}, in neither {neither:,}",
        f"B - A: {points(found.difference)} points, {interval}; {test}",
        images_verdict(found),
    ]
    for what, sign in (("gained", 1), ("lost", -1)):
        some = sorted(
            (c for c in found.changes if sign * c.gain > 0), key=lambda c: (-sign * c.gain, c.images)
        )
        if some:
            lines.append(f"Classes that {what} most from A to B ({len(some)} {what}):")
        for change in some[:_SHOWN]:
            lines.append(
                f"  {change.gain:+d} of {change.images:,} images of {escaped(classes.names[change.label])} "
                f"({change.right_a:,} right in A, {change.right_b:,} in B)"
            )
    return "\n".join(lines)


def images_verdict(found: Paired) -> str:
    """What the images show, and no more."""
    alone = found.only_a + found.only_b
    seeds = "Images vary in this, training does not: another seed may give another answer."
    if not alone:
        return "They are right on the same images: no difference."
    if alone < FEWEST:
        few = (
            "1 image on which one alone is right is"
            if alone == 1
            else f"{alone} images on which one alone is right are"
        )
        return f"{few} too few to show a difference."
    if found.p_value >= 1.0 - CONFIDENCE:
        return "These images show no difference."
    return f"{'B' if found.only_b > found.only_a else 'A'} is better on such images. {seeds}"
