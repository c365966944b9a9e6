"""SCDA and DDT against values worked out by hand and in float64 numpy, and their invariances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.sharding import Mesh, PartitionSpec

from cdml_jax.retrieval.boxes import bounding_boxes, corloc, intersection_over_union
from cdml_jax.retrieval.components import largest_component
from cdml_jax.retrieval.descriptors import (
    DescriptorSums,
    above_mean,
    descriptor_sums,
    descriptor_transform,
    indicator_maps,
    leading_eigenvector,
    pooled_descriptors,
    principal_direction,
    selected_positions,
)
from cdml_jax.retrieval.descriptors import selective_descriptors as unjitted

selective_descriptors = jax.jit(unjitted, static_argnames="neighbours")


def worked_map():
    """Four positions above the mean, of which three touch."""
    values = np.zeros((1, 4, 4, 2))
    values[0, 1, 1], values[0, 1, 2], values[0, 2, 1] = (3, 0), (1, 2), (0, 2)
    values[0, 3, 3], values[0, 0, 3] = (0, 4), (0.5, 0)
    return values


def test_scda_has_the_values_worked_out_by_hand():
    values = worked_map()
    assert values.sum(axis=3).mean() == 0.78125
    above = np.argwhere(np.asarray(above_mean(values))[0]).tolist()
    assert above == [[1, 1], [1, 2], [2, 1], [3, 3]]
    component = np.argwhere(np.asarray(selected_positions(values))[0]).tolist()
    assert component == [[1, 1], [1, 2], [2, 1]]
    found = selective_descriptors(values)[0]
    expected = [0.7071067812, 0.7071067812, 0.8320502943, 0.5547001962]  # of (4/3, 4/3) and (3, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_maps_of_no_image_give_no_descriptors():
    maps, earlier = jnp.zeros((0, 7, 5, 4)), jnp.zeros((0, 14, 10, 3))
    assert selective_descriptors(maps).shape == (0, 8)
    assert selective_descriptors(maps, earlier).shape == (0, 14)


def test_descriptors_have_a_gradient_where_the_compiler_computes_the_map_twice():
    """After a layer norm, as of a transformer: fused with it, a maximum equals no value of the map."""
    tokens = np.random.default_rng(0).uniform(0, 2, (16, 2, 2, 5)).astype(np.float32)

    def normalised(x):
        return (x - x.mean(3, keepdims=True)) / jnp.sqrt(x.var(3, keepdims=True) + 1e-6) * 1.3 + 0.1

    def loss(maps):
        found = pooled_descriptors(maps, jnp.ones(maps.shape[:3], bool))
        return (found[:, 5:] * jnp.arange(1.0, 6)).sum()

    at_once = jax.jit(jax.grad(lambda x: loss(normalised(x))))(tokens)
    maps, back = jax.vjp(normalised, tokens)
    np.testing.assert_allclose(at_once, back(jax.grad(loss)(maps))[0], rtol=1e-3, atol=1e-4)


def test_corners_connect_by_eight_neighbours_and_not_by_four():
    values = worked_map()
    values[0, 2, 2] = (5, 1)  # touches (3, 3) by a corner, the other three by sides
    values[0, 2, 1] = (0, 0)
    values[0, 1, 2] = (0, 0)  # now (1, 1), (2, 2), (3, 3) touch by corners alone
    eight = np.asarray(selected_positions(values))[0]
    four = np.asarray(selected_positions(values, neighbours=4))[0]
    assert np.argwhere(eight).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert np.argwhere(four).tolist() == [[1, 1]]  # of equal ones the first
    by_eight, by_four = (selective_descriptors(values, neighbours=n)[0] for n in (8, 4))
    np.testing.assert_allclose(by_four, [1, 0, 1, 0], atol=1e-7)
    mean, largest = np.array([8, 5]) / np.hypot(8, 5), np.array([5, 4]) / np.hypot(5, 4)
    np.testing.assert_allclose(by_eight, [*mean, *largest], rtol=1e-6)


@pytest.mark.parametrize("neighbours", [4, 8])
def test_components_are_those_of_scipy(neighbours):
    rng = np.random.default_rng(neighbours)
    masks = rng.random((60, 9, 13)) < rng.uniform(0.2, 0.7, (60, 1, 1))
    spiral = np.zeros((9, 13), bool)
    spiral[0], spiral[:, 12], spiral[8], spiral[2:, 0], spiral[2, :10], spiral[2:7, 9] = (True,) * 6
    masks = np.concatenate([masks, spiral[None], np.zeros((1, 9, 13), bool), np.ones((1, 9, 13), bool)])
    found = np.asarray(jax.jit(functools.partial(largest_component, neighbours=neighbours))(masks))
    structure = np.ones((3, 3)) if neighbours == 8 else None
    for mask, component in zip(masks, found):
        labels, number = scipy.ndimage.label(mask, structure)
        sizes = np.bincount(labels.ravel(), minlength=2)[1:]
        assert (component == (labels == 1 + sizes.argmax() if number else mask)).all()


def test_scda_plus_takes_the_positions_of_both_maps():
    earlier = np.zeros((1, 8, 8, 3))
    earlier[0, 2, 2] = (9, 0, 0)  # under M̃ at (1, 1)
    earlier[0, 5, 3] = (0, 6, 0)  # under M̃ at (2, 1)
    earlier[0, 3, 4] = (0.1, 0, 0)  # under M̃, below the map's own mean
    earlier[0, 7, 7] = (0, 0, 50)  # outside M̃
    found = selective_descriptors(worked_map(), earlier)[0]
    np.testing.assert_allclose(found[:4], selective_descriptors(worked_map())[0])
    mean = largest = np.array([9, 6, 0]) / np.hypot(9, 6)
    np.testing.assert_allclose(found[4:], 0.5 * np.array([*mean, *largest]), rtol=1e-6, atol=1e-7)
    # Where the map's own positions all lie outside, those under M̃ are taken.
    earlier[0, :7, :7] = (0.1, 0, 0)
    np.testing.assert_allclose(selective_descriptors(worked_map(), earlier)[0, 4:], [0.5, 0, 0, 0.5, 0, 0])


def test_scda_does_not_depend_on_scale_and_takes_all_of_a_constant_map():
    rng = np.random.default_rng(1)
    maps = rng.gamma(0.5, size=(3, 5, 6, 7)).astype(np.float32)
    whole = np.asarray(selective_descriptors(maps))
    for factor in (1e-15, 3.0, 1e15):
        np.testing.assert_allclose(selective_descriptors(np.float32(factor) * maps), whole, rtol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), np.sqrt(2), rtol=1e-6)
    assert np.asarray(selected_positions(np.full((1, 3, 4, 2), 0.3, np.float32))).all()
    assert not np.asarray(selective_descriptors(np.zeros((1, 3, 4, 2)))).any()


def test_scda_works_under_every_transformation():
    rng = np.random.default_rng(2)
    maps = jnp.asarray(rng.gamma(0.5, size=(4, 5, 6, 4)), jnp.float32)
    plain = np.asarray(selective_descriptors(maps))
    assert jax.eval_shape(selective_descriptors, maps.astype(jnp.bfloat16)).dtype == jnp.float32
    by_one = jax.jit(jax.vmap(lambda one: unjitted(one[None])[0]))(maps)
    np.testing.assert_allclose(by_one, plain, rtol=1e-6)
    by_device = jax.pmap(unjitted)(maps[:, None])[:, 0]
    np.testing.assert_allclose(by_device, plain, rtol=1e-6)
    mesh, rows = Mesh(jax.devices()[:4], "data"), PartitionSpec("data")
    sharded = jax.jit(jax.shard_map(unjitted, mesh=mesh, in_specs=rows, out_specs=rows))(maps)
    np.testing.assert_allclose(sharded, plain, rtol=1e-6)
    direction = jnp.asarray(rng.normal(size=plain.shape), jnp.float32)
    gradient_of = jax.jit(jax.grad(lambda m, along: (unjitted(m) * along).sum()))
    gradient = gradient_of(maps, direction)
    step = jnp.asarray(rng.normal(size=maps.shape), jnp.float32) * 1e-3
    change = ((selective_descriptors(maps + step) - selective_descriptors(maps - step)) * direction).sum() / 2
    np.testing.assert_allclose((gradient * step).sum(), change, rtol=0.02)
    assert np.isfinite(gradient_of(jnp.zeros_like(maps), direction)).all()


X = np.array([(4, 1), (3, 1), (0, 1), (0, 0), (0, 0), (1, 0)], float)
P = (2.7126327818, 1.7334951114, -1.2039178998, -1.407115888, -1.407115888, -0.4279782175)


def test_ddt_has_the_values_worked_out_in_float64():
    direction = principal_direction(DescriptorSums(6, X.sum(axis=0), X.T @ X))
    np.testing.assert_allclose(direction.mean, [1.3333333333, 0.5], atol=1e-9)
    np.testing.assert_allclose(direction.vector, [0.9791376704, 0.2031979881], atol=1e-9)
    np.testing.assert_allclose(direction.share, 2.6593193031 / (2.6593193031 + 0.1462362524), atol=1e-9)
    np.testing.assert_allclose(descriptor_transform(X.reshape(2, 3, 1, 2)).ravel(), P, atol=1e-9)
    # Summed up in parts on a device, of which one has an image that does not count.
    padded = np.concatenate([X.reshape(2, 3, 1, 2), np.full((1, 3, 1, 2), np.nan)])
    parts = [descriptor_sums(padded[:1]), descriptor_sums(padded[1:], where=jnp.array([True, False]))]
    streamed = principal_direction(parts[0].plus(parts[1]))
    found = jax.jit(indicator_maps)(padded[:2], streamed.mean, streamed.vector)
    np.testing.assert_allclose(np.ravel(found), P, rtol=1e-5)


@pytest.mark.parametrize("gap", [0.5, 0.0])
def test_the_leading_eigenvector_of_a_large_matrix_is_that_of_the_decomposition(gap):
    """Without a gap between eigenvalues the iteration ends undecided, and the decomposition decides."""
    rng = np.random.default_rng(4)
    frame = np.linalg.qr(rng.normal(size=(128, 128)))[0]
    values = np.linspace(0.99, 1, 128)
    values[-1] += gap
    matrix = (frame * values) @ frame.T
    value, vector = leading_eigenvector((matrix + matrix.T) / 2)
    np.testing.assert_allclose([value, abs(vector @ frame[:, -1])], [values[-1], 1], rtol=1e-9)


def test_ddt_does_not_depend_on_the_frame_of_the_descriptors():
    rng = np.random.default_rng(3)
    maps = rng.gamma(0.7, size=(4, 3, 5, 6)) * np.arange(1, 7)
    plain = descriptor_transform(maps)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    turned = descriptor_transform(maps @ rotation)
    np.testing.assert_allclose(turned * np.sign((turned * plain).sum()), plain, atol=1e-9)
    np.testing.assert_allclose(descriptor_transform(maps + rng.normal(size=6)), plain, atol=1e-9)
    twice = descriptor_transform(np.concatenate([maps, maps]))
    np.testing.assert_allclose(twice, np.concatenate([plain, plain]), atol=1e-9)
    # The sign: strong activations are positive over the set, by the sum that the shortcut stands for.
    assert (maps.sum(axis=3) * plain).sum() > 0
    assert not descriptor_transform(np.full((2, 3, 3, 4), 0.1)).any()  # nothing varies: no object


def test_what_is_no_map_is_refused(unchecked_shapes):
    with pytest.raises(ValueError, match=r"feature_map must be \(images, height, width, channels\)"):
        unjitted(np.zeros((4, 4, 2)))
    with pytest.raises(ValueError, match="neighbours must be 4 or 8, not 6"):
        unjitted(np.zeros((1, 4, 4, 2)), neighbours=6)
    with pytest.raises(ValueError, match="no descriptor"):
        descriptor_transform(np.zeros((0, 4, 4, 2)))
    with pytest.raises(ValueError, match="not finite"):
        descriptor_transform(np.full((1, 4, 4, 2), np.nan))


def test_boxes_and_their_agreement():
    masks = np.zeros((3, 4, 8), bool)
    masks[0, 1:3, 4:8] = masks[1, 3, 0:2] = True
    boxes, found = bounding_boxes(masks)
    np.testing.assert_allclose(boxes[:2], [[0.5, 0.25, 1, 0.75], [0, 0.75, 0.25, 1]])
    assert found.tolist() == [True, True, False]
    known = np.array([[0.5, 0.25, 1, 0.5], [0, 0.5, 0.5, 1], [0, 0, 1, 1]])
    np.testing.assert_allclose(intersection_over_union(boxes, known), [0.5, 0.25, 1])
    assert corloc(boxes, known) == pytest.approx(1 / 3)  # one half is not above one half
    assert corloc(boxes, known, threshold=0.2) == 1
    assert np.isnan(corloc(boxes[:0], known[:0]))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda maps: unjitted(maps, maps[:1]), "earlier"),
        (lambda maps: pooled_descriptors(maps, np.ones((1, 3, 3), bool)), "positions"),
        (lambda maps: pooled_descriptors(maps, np.ones((2, 1, 1), bool)), "positions"),
        (lambda maps: descriptor_sums(maps, where=np.ones(1, bool)), "where"),
        (lambda maps: indicator_maps(maps, np.zeros(1), np.zeros(4)), "mean"),
        (lambda maps: descriptor_sums(maps).plus(descriptor_sums(maps[..., :1])), "total"),
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(unchecked_shapes, call, name):
    with pytest.raises(ValueError, match=rf"^{name}\b.*\d"):
        call(np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32))
    masks = [[[True, False, True]] * 3] * 2
    maps = np.ones((2, 3, 3, 4), np.float32)
    assert pooled_descriptors(maps, masks).shape == (2, 8)
    assert float(descriptor_sums(maps, where=[True, False]).number) == 9
