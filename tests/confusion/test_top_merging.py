"""Counters merged on the host: the rule by loops, and bit for bit what the devices' sorts give."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.confusion import DensePairWeights, TopConfusions, TopPairWeights
from cdml_jax.confusion.counts import first_places
from cdml_jax.confusion.top_counters import largest
from cdml_jax.confusion.top_merging import Counters, merge_counters

LARGE = 2**28  # eight of them still fit


def counters(rng, kind, classes, k, dtype):
    """A part: each class has up to `k` distinct answers, by a law that is hard on a merge."""
    answers = np.argsort(rng.random((classes, k + 3)), axis=1)[:, :k].astype(np.int32)
    if kind == "apart":  # no two parts share an answer, up to the largest number of classes
        answers = rng.integers(0, 2**31 - 1, (classes, 1), dtype=np.int32) // k * k + np.arange(
            k, dtype=np.int32
        )
    values = {
        "few": lambda: rng.integers(0, 3, (classes, k)),  # many equal sums, many free counters
        "equal": lambda: np.ones((classes, k)),
        "apart": lambda: rng.integers(1, 9, (classes, k)),
        "large": lambda: rng.integers(LARGE - 4, LARGE, (classes, k)),
        "wide": lambda: rng.integers(0, 2**30, (classes, k)) / 8 if dtype == np.int32 else None,
    }[kind]()
    if values is None:  # sums that depend on the order in which they are added; some below the normal range
        values = np.exp(rng.normal(0, 12, (classes, k))) * np.where(rng.random((classes, k)) < 0.1, 1e-40, 1)
    values = values.astype(dtype)
    return Counters(np.where(values > 0, answers, -1).astype(np.int32), values)


def by_loops(parts, k):
    """Each class's {answer: value} after the merge, by dictionaries of exact integers."""
    result = []
    for rows in zip(*(zip(*part) for part in parts)):
        total = Counter()
        for answers, values in rows:
            for answer, value in zip(answers.tolist(), values.tolist()):
                if answer >= 0:
                    total[answer] += int(value)
        in_order = sorted(total.items(), key=lambda item: (-item[1], item[0]))
        following = in_order[k][1] if len(in_order) > k else 0
        result.append([(answer, value - following) for answer, value in in_order[:k] if value > following])
    return result


def on_a_device(parts, k):
    columns = (np.concatenate(columns, axis=1) for columns in zip(*parts))
    return Counters(*map(np.asarray, jax.jit(functools.partial(largest, k=k))(*columns)))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("kind", ["few", "equal", "apart", "large", "wide"])
def test_merged_counters_are_those_of_the_rule_and_of_the_devices(kind, dtype):
    """One part, two, and nine: more than numpy adds up one after the other by itself."""
    rng = np.random.default_rng(7)
    for number, classes, k in ((1, 5, 4), (2, 40, 1), (9, 40, 6), (3, 7_000, 8)):
        number = min(number, 7) if kind == "large" else number
        parts = [counters(rng, kind, classes, k, dtype) for _ in range(number)]
        merged = merge_counters(parts, k)
        for ours, theirs in zip(merged, on_a_device(parts, k)):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)
        assert np.array_equal(merged.indices >= 0, merged.values > 0)
        if kind in ("few", "equal", "apart") or (dtype == np.int32 and kind == "large"):
            rows = slice(0, 200)
            exact = by_loops([Counters(*(a[rows] for a in part)) for part in parts], k)
            found = [
                [(answer, value) for answer, value in zip(*row) if answer >= 0]
                for row in zip(*(a[rows].tolist() for a in merged))
            ]
            assert found == exact


def test_what_is_left_below_the_normal_range_frees_its_counter():
    near = np.float32(2e-38)
    part = Counters(np.array([[4, 5]], np.int32), np.array([[np.nextafter(near, np.float32(1)), near]]))
    merged = merge_counters([part], 1)
    assert merged.indices.tolist() == [[-1]]
    assert merged.values.tolist() == [[0.0]]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_what_is_kept_over_epochs_is_what_one_compiled_program_gave(decay):
    rng = np.random.default_rng(3)

    def confusion(kind, dtype):
        part = counters(rng, kind, 300, 6, dtype)
        return TopConfusions(*part, *(part.values.sum(axis=1, dtype=dtype) * n for n in (3, 5)))

    @jax.jit
    def at_once(kept, decay, epoch):
        both = [jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), top[1:]) for top in (kept, epoch)]
        both[0] = [decay * a for a in both[0]]
        indices = jnp.concatenate([kept.indices, epoch.indices], axis=1)
        values = jnp.concatenate([part[0] for part in both], axis=1)
        return *largest(indices, values, 6), *(a + b for a, b in zip(both[0][1:], both[1][1:]))

    for kept, epoch in (
        (confusion("wide", np.float32), confusion("wide", np.float32)),
        (confusion("few", np.float32), confusion("few", np.int32)),
    ):
        for ours, theirs in zip(kept.plus(epoch, decay=decay), at_once(kept, decay, epoch), strict=True):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("values", [3, 10_000])
def test_the_first_places_are_those_of_a_whole_sort(values):
    rng = np.random.default_rng(values)
    cells = rng.permutation(40 * 50)[:1_000]
    rows, columns = cells // 50, cells % 50
    found = rng.integers(0, values, 1_000).astype(np.float32)
    order = np.lexsort([columns, rows, -found])
    for number in (0, 1, 10, 400, 999, 1_000, 2_000):
        assert np.array_equal(first_places(rows, columns, found, number), order[:number])


def test_the_largest_pairs_are_those_of_the_matrix():
    """Of both forms, with equal weights, and classes whose rest is larger than what others list."""
    rng = np.random.default_rng(0)
    indices = np.argsort(rng.random((12, 12)), axis=1)[:, :5].astype(np.int32)
    indices[indices == np.arange(12)[:, None]] = -1
    excess = np.where(indices >= 0, rng.integers(0, 3, (12, 5)), 0).astype(np.float32)
    indices = np.where(excess > 0, indices, -1)
    pairs = TopPairWeights(indices, excess, rng.integers(0, 3, 12).astype(np.float32))
    places = np.argwhere(~np.eye(12, dtype=bool))
    order = np.lexsort([*places.T[::-1], -pairs.at(places)])
    matrix = np.zeros((12, 12), np.float32)
    matrix[tuple(places.T)] = pairs.at(places)
    for number in (1, 10, 12, 13, 60, 132, 500):
        assert np.array_equal(pairs.largest(number), places[order[:number]])
        assert np.array_equal(DensePairWeights(matrix).largest(number), places[order[:number]])
