"""Wrong labels by the images' names."""

import dataclasses

import numpy as np
import pytest

from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.data.dividing.label_noise import Relabelled, with_label_noise
from cdml_jax.errors import UserError

LABELS = np.repeat([0, 1, 2, 3], 250).astype(np.int32)
SOURCE = ArraySource(np.zeros((1000, 1, 1, 3), np.uint8), LABELS, [f"bird {k}.jpg" for k in range(1000)])


def test_a_share_of_the_images_gets_another_class_whatever_their_order():
    few, many = (Relabelled(SOURCE, share, 4) for share in (0.1, 0.4))
    assert few.changed.sum() == 100
    assert many.changed.sum() == 400
    assert many.changed[few.changed].all()  # a smaller share is part of a larger one, with the same labels
    np.testing.assert_array_equal(few.labels[few.changed], many.labels[few.changed])
    np.testing.assert_array_equal(many.changed, many.labels != LABELS)
    order = np.random.default_rng(0).permutation(1000)
    shuffled = ArraySource(
        np.zeros((1000, 1, 1, 3), np.uint8), LABELS[order], [f"bird {k}.jpg" for k in order]
    )
    np.testing.assert_array_equal(Relabelled(shuffled, 0.4, 4).labels, many.labels[order])
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (LABELS[many.changed], many.labels[many.changed]), 1)
    others = counts[~np.eye(4, dtype=bool)]
    assert (np.abs(others - 400 / 12) < 4 * np.sqrt(400 / 12)).all()  # each of the others alike
    assert many.name(3) == "bird 3.jpg"


def test_training_images_alone_are_relabelled():
    whole = Dataset("birds", Classes(tuple("abcd")), {"train": SOURCE, "test": SOURCE})
    noisy = with_label_noise(whole, 0.2)
    assert noisy.splits["test"] is SOURCE
    assert (noisy.splits["train"].labels != LABELS).mean() == 0.2
    assert noisy.fingerprint() != whole.fingerprint()
    assert with_label_noise(whole, 0.0) is whole
    alone = dataclasses.replace(whole, classes=Classes(("a",)), splits={"train": SOURCE})
    with pytest.raises(UserError, match=r"data\.label_noise: a data set of one class"):
        with_label_noise(alone, 0.2)
