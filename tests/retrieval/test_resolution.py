"""Embeddings that have too few digits are said to be so, and those that have enough are not."""

import numpy as np
import pytest
from hard_sets import hard_sets, labels_of

from cdml_jax.retrieval import retrieval

SETS = hard_sets(300)
LABELS = labels_of(300)
NOISE = {"+1e+08", "tight 1e-08", "all the same", "two places"}
COPIES = {name for name in SETS if "copies" in name or "integers" in name} | {"one column"}


@pytest.mark.parametrize("name", sorted(SETS.keys() - NOISE - COPIES))
def test_what_can_be_told_apart_is_not_called_noise(name):
    found = retrieval(SETS[name], LABELS)
    assert found.unresolved < 0.05
    assert found.warning is None


@pytest.mark.parametrize("name", sorted(NOISE))
def test_what_lies_within_rounding_is_called_noise(name):
    found = retrieval(SETS[name], LABELS)
    assert found.unresolved > 0.4
    assert f"{found.unresolved:.0%} of the embeddings equal one of another class" in found.warning


def test_float16_and_float32_have_other_digits():
    rows = np.random.default_rng(0).normal(size=(300, 8)) * 0.01 + 50
    assert retrieval(np.float32(rows), LABELS).warning is None
    assert retrieval(np.float16(rows), LABELS).unresolved == 1


def test_classes_that_have_collapsed_to_a_point_each_are_perfect():
    found = retrieval(np.eye(20, dtype=np.float32)[LABELS], LABELS, recall_at=(1,))
    assert (found.recall[1], found.map_at_r, found.unresolved) == (1, 1, 0)


def test_copies_in_another_class_count():
    rows = np.float32(np.random.default_rng(0).normal(size=(40, 8)))
    rows[20:25] = rows[:5]
    labels = np.repeat([0, 1], 20)
    found = retrieval(rows, labels)
    assert found.unresolved == 10 / 40
    assert found.warning
