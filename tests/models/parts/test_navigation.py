"""Proposed boxes, the best of them that lie apart, the ranking loss, where gradients stop, operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.methods.navigation import ranking_loss
from cdml_jax.models import Spec
from cdml_jax.models.parts.crops import cut_out
from cdml_jax.models.parts.navigation import Navigator, best_apart, overlap, proposed_boxes


def agreement(one, other):
    """Intersection over union of two boxes, in whole pixels, by counting."""
    shape = (1 + int(max(one[2], other[2])), 1 + int(max(one[3], other[3])))
    masks = np.zeros((2, *shape), bool)
    for mask, (top, left, bottom, right) in zip(masks, (one, other)):
        mask[int(top) : int(bottom), int(left) : int(right)] = True
    return masks.all(0).sum() / masks.any(0).sum()


def test_boxes_are_the_published_ones_at_448_pixels():
    boxes = proposed_boxes((448, 448), (14, 14))
    assert boxes.shape == (14 * 14 * 6 + 7 * 7 * 6 + 4 * 4 * 9, 4) == (1614, 4)
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    # The second box of the first position: square, 48 times the third root of 2, in the middle of 32 pixels.
    side = 48 * 2 ** (1 / 3)
    np.testing.assert_array_equal(boxes[1], np.floor([16 - side / 2] * 2 + [16 + side / 2] * 2))
    # The third is wider than high by 1.5; the last of all lies around (448, 448), as wide.
    assert widths[2] / heights[2] == pytest.approx(1.5, abs=0.04)
    side = 192 * 2 ** (2 / 3)
    last = [448 - side / 1.5**0.5 / 2, 448 - side * 1.5**0.5 / 2]
    np.testing.assert_array_equal(boxes[-1][:2], np.floor(last))
    # Of another image they are the same shares of both sides.
    half = proposed_boxes((224, 448), (14, 14))
    np.testing.assert_allclose(half[:, 1::2], boxes[:, 1::2])
    np.testing.assert_allclose(half[:, ::2], boxes[:, ::2] / 2, atol=1)


def test_overlaps_are_those_by_counting():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 12, (40, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 12, (40, 2))], axis=1).astype(np.float32)
    found = overlap(jnp.asarray(boxes)[:, None], jnp.asarray(boxes)[None])
    expected = [[agreement(one, other) for other in boxes] for one in boxes]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert overlap(jnp.float32([0, 0, 10, 10]), jnp.float32([1, 1, 11, 11])) == pytest.approx(81 / 119)
    assert overlap(jnp.float32([0, 0, 10, 10]), jnp.float32([0, 8, 10, 18])) == pytest.approx(20 / 180)


def test_the_best_that_lie_apart_are_those_of_a_list_that_shrinks():
    boxes = proposed_boxes((448, 448), (14, 14))
    scores = np.random.default_rng(1).normal(size=(12, 1614)).astype(np.float32)
    found = jax.jit(lambda scores: best_apart(scores, boxes, 6))(scores)
    shared = np.asarray(overlap(jnp.asarray(boxes)[:, None], jnp.asarray(boxes)[None]))
    for row, ours in zip(scores, found):
        left, expected = list(np.argsort(-row)), []
        while len(expected) < 6:
            expected.append(left[0])
            left = [box for box in left if shared[left[0], box] < 0.25]
        np.testing.assert_array_equal(ours, expected)


def test_equal_boxes_count_once_and_what_follows_is_stated():
    apart = np.float32([[k * 20, 0, k * 20 + 10, 10] for k in range(5)])
    scores = jnp.float32([[0.1, 0.5, 0.3, 0.9, 0.2]])
    best = jax.jit(lambda scores, boxes: best_apart(scores, boxes, 3))
    assert best(scores, apart).tolist() == [[3, 1, 2]]
    # All on one place: one of them survives; the others follow by their scores.
    assert best(scores, np.tile(apart[:1], (5, 1))).tolist() == [[3, 1, 2]]
    near = np.float32([[0, 0, 10, 10], [0, 1, 10, 11], [50, 0, 60, 10]])
    assert best(jnp.float32([[0.9, 0.8, 0.1]]), near).tolist() == [[0, 2, 1]]


def test_the_ranking_loss_is_the_published_one_and_learns_by_scores_alone(float64):
    scores, errors = jnp.array([[0.2, 0.5, -0.1]]), jnp.array([[1.0, 0.3, 2.0]])
    np.testing.assert_allclose(ranking_loss(scores, errors), 1.8)
    gradients = jax.jit(jax.grad(lambda *a: ranking_loss(*a).sum(), argnums=(0, 1)))
    by_scores, by_errors = gradients(scores, errors)
    # The surer crop of each of the three pairs is pulled up, the other down.
    np.testing.assert_allclose(by_scores, [[0, -2, 2]])
    assert not by_errors.any()
    rng = np.random.default_rng(2)
    scores, errors = rng.normal(size=(2, 5, 6))
    expected = [
        sum(max(0, 1 - (i[s] - i[k])) for k in range(6) for s in range(6) if e[k] > e[s])
        for i, e in zip(scores, errors)
    ]
    np.testing.assert_allclose(ranking_loss(jnp.asarray(scores), jnp.asarray(errors)), expected)


def test_operations_are_those_of_the_formula():
    """Navigator: 9 a (N P + a P / 4 + a P / 16) + a (6 P + 6 P / 4 + 9 P / 16); a crop: 3 s W (H + s)."""
    channels, width = 256, 128
    build = lambda: Navigator(channels, Spec(num_classes=5), rngs=nnx.Rngs(0))  # noqa: E731
    graph, state = nnx.split(nnx.eval_shape(build))
    x = jax.ShapeDtypeStruct((1, 14, 14, channels), jnp.float32)
    levels = (196, 49, 16)
    expected = 9 * channels * width * levels[0] + 9 * width**2 * sum(levels[1:])
    expected += width * sum(k * p for k, p in zip((6, 6, 9), levels))
    counted = (
        jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, x).cost_analysis()["flops"] / 2
    )
    assert counted == pytest.approx(expected, rel=0.15)
    size, side, crops = 32, 64, 6
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    boxes = jax.ShapeDtypeStruct((2, crops, 4), jnp.float32)
    lowered = jax.jit(lambda *a: cut_out(*a, (size, size))).lower(images, boxes)
    expected = 2 * crops * 3 * (size * side * side + size * size * side)
    assert lowered.cost_analysis()["flops"] / 2 == pytest.approx(expected, rel=0.1)
