"""The paired comparison against enumeration, resampling and scipy; runs that are not comparable."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats

from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.reporting.paired import aligned, compare_predictions, report
from cdml_jax.reporting.predictions import Predictions

CLASSES = Classes(("wren", "tit", "o\x1bwl"))


def predictions(labels, called, names=None):
    called = np.asarray(called)
    names = tuple(names or (f"{number}.jpg" for number in range(len(labels))))
    top = np.stack([called, (called + 1) % 3], axis=1)
    return Predictions(names, np.asarray(labels), top, np.full(top.shape, 0.5), np.full(len(top), 0.5))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 6), (3, 4), (2, 9), (10, 0), (5, 5)])
def test_mcnemars_test_is_exact(only_a, only_b):
    """All 2^n ways in which n images could have fallen to one of two equal runs."""
    labels = np.zeros(only_a + only_b + 4, int)
    called_a, called_b = labels.copy(), labels.copy()
    called_b[:only_a] = 1
    called_a[only_a : only_a + only_b] = 1
    found = compare_predictions(labels, called_a, called_b)
    assert (found.only_a, found.only_b, found.both) == (only_a, only_b, 4)
    sums = np.array([sum(way) for way in itertools.product((0, 1), repeat=only_a + only_b)])
    as_uneven = np.abs(2 * sums - len(labels) + 4) >= abs(only_a - only_b)
    assert found.p_value == pytest.approx(as_uneven.mean())


def test_the_interval_is_that_of_images_drawn_again():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 150)
    called_a = np.where(rng.random(150) < 0.6, labels, (labels + 1) % 3)
    called_b = np.where(rng.random(150) < 0.7, labels, (labels + 1) % 3)
    found = compare_predictions(labels, called_a, called_b)
    gain = (called_b == labels).astype(float) - (called_a == labels)
    assert found.difference == pytest.approx(100 * gain.mean())
    drawn = stats.bootstrap(
        (gain,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    )
    expected = 100 * np.array(drawn.confidence_interval)
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.8)
    assert compare_predictions(labels, called_a, called_b) == found  # the draws are fixed
    other_way = compare_predictions(labels, called_b, called_a)
    assert other_way.difference == -found.difference
    np.testing.assert_allclose([-other_way.high, -other_way.low], [found.low, found.high], atol=0.8)


def test_what_is_printed_to_the_letter():
    labels = np.repeat([0, 1, 2], [10, 5, 5])
    called_a, called_b = labels.copy(), labels.copy()
    called_a[:7] = 1
    called_b[[10, 15]] = 0
    text = report(compare_predictions(labels, called_a, called_b), CLASSES)
    start, interval, rest = text.partition("95% interval [")
    assert start == (
        "A: top-1 65.00% (13 of 20 images)\n"
        "B: top-1 90.00% (18 of 20 images)\n"
        "Right in both 11, in A alone 2, in B alone 7, in neither 0\n"
        "B - A: +25.00 points, "
    )
    assert interval
    assert rest.partition("]")[2] == (
        " by bootstrap over images; McNemar's exact test: p = 0.18\n"
        "These images show no difference.\n"
        "Classes that gained most from A to B (1 gained):\n"
        "  +7 of 10 images of wren (3 right in A, 10 in B)\n"
        "Classes that lost most from A to B (2 lost):\n"
        "  -1 of 5 images of tit (5 right in A, 4 in B)\n"
        "  -1 of 5 images of o\\x1bwl (5 right in A, 4 in B)"
    )


@pytest.mark.parametrize(
    ("only_a", "only_b", "says"),
    [
        (0, 0, "They are right on the same images: no difference."),
        (0, 1, "1 image on which one alone is right is too few to show a difference."),
        (0, 5, "5 images on which one alone is right are too few to show a difference."),
        (0, 6, "B is better on such images. Images vary in this, training does not: another seed may"),
        (12, 1, "A is better on such images."),
        (6, 6, "These images show no difference."),
    ],
)
def test_the_verdict_says_no_more_than_the_images(only_a, only_b, says):
    labels = np.zeros(30, int)
    called_a, called_b = labels.copy(), labels.copy()
    called_b[:only_a] = 1
    called_a[only_a : only_a + only_b] = 1
    text = report(compare_predictions(labels, called_a, called_b), CLASSES)
    assert says in text
    assert ("no interval" in text) == (only_a + only_b == 0)


def test_images_and_classes_in_another_order_are_the_same():
    a = predictions([0, 1, 2, 1], [0, 2, 2, 0])
    order, classes = [2, 0, 3, 1], Classes(("o\x1bwl", "wren", "tit"))
    number = np.array([1, 2, 0])  # of A's classes in B
    b = predictions(number[a.labels[order]], number[a.top_classes[order, 0]], [a.names[k] for k in order])
    found = aligned(a, b, CLASSES, classes)
    np.testing.assert_array_equal(found.labels, a.labels)
    np.testing.assert_array_equal(found.top_classes[:, 0], a.top_classes[:, 0])


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        (
            {},
            Classes(("wren", "tit", "emu")),
            r"they are of other classes: only one of them has emu, o\\x1bwl$",
        ),
        (
            {"names": ("0.jpg", "1.jpg", "x\n", "y")},
            CLASSES,
            r"other images \(4 and 4\): .* has 2.jpg, 3.jpg, x\\n and 1",
        ),
        ({"names": ("0.jpg", "1.jpg", "1.jpg", "3.jpg")}, CLASSES, "images of one name are among them"),
        ({"labels": np.array([0, 1, 1, 1])}, CLASSES, "images are of another class in one of them: 2.jpg$"),
    ],
)
def test_other_images_and_classes_are_refused(change, classes, message):
    a = predictions([0, 1, 2, 1], [0, 2, 2, 0])
    with pytest.raises(UserError, match=message):
        aligned(a, dataclasses.replace(a, **change), CLASSES, classes)
