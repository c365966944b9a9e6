"""Bilinear samples and crops: published values, a sum over all pixels, gradients, what is outside."""

import jax
import jax.numpy as jnp
import numpy as np

from cdml_jax.models.parts import crops

cut_out, sampled = jax.jit(crops.cut_out, static_argnums=2), jax.jit(crops.sampled)


def sample(image, rows, columns):
    """One image (height, width) without channels."""
    given = (image[None, :, :, None], jnp.asarray(rows)[None, None], jnp.asarray(columns)[None, None])
    return sampled(*map(jnp.asarray, given))[0, 0, :, :, 0]


def test_values_are_the_published_ones(float64):
    square = np.array([[0.0, 1], [2, 3]])
    assert sample(square, np.array([0.5]), np.array([0.5])) == 1.5
    assert sample(square, np.array([0.75]), np.array([0.25])) == 1.75
    ramp = 2 * np.arange(5.0) + 10 * np.arange(5.0)[:, None]

    def crop(shift):
        grid = jnp.linspace(-1, 1, 3)
        rows, columns = ((0.5 * grid + t + 1) * (5 - 1) / 2 for t in (shift[1], shift[0]))
        return sample(ramp, rows, columns)

    shift = jnp.array([0.25, -0.5])
    np.testing.assert_allclose(crop(shift), [[3, 5, 7], [13, 15, 17], [23, 25, 27]], atol=1e-12)
    by_x, by_y = jnp.moveaxis(jax.jit(jax.jacobian(crop))(shift), 2, 0)
    np.testing.assert_allclose(by_x, 4, atol=1e-9)
    np.testing.assert_allclose(by_y, 20, atol=1e-9)


def test_it_is_the_sum_over_all_pixels_and_its_gradients_are_those_of_differences(float64):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 5, 7, 3))
    rows, columns = rng.uniform(-2, 6, (2, 3, 4)), rng.uniform(0, 6, (2, 3, 2))
    found = sampled(*map(jnp.asarray, (images, rows, columns)))
    expected = np.zeros((2, 3, 4, 2, 3))
    for place in np.ndindex(2, 3, 4, 2):
        b, n, i, j = place
        for r, c in np.ndindex(5, 7):
            weight = max(0, 1 - abs(rows[b, n, i] - r)) * max(0, 1 - abs(columns[b, n, j] - c))
            expected[place] += weight * images[b, r, c]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    mixed = rng.normal(size=expected.shape)

    def value(rows, columns):
        return (sampled(jnp.asarray(images), jnp.asarray(rows), jnp.asarray(columns)) * mixed).sum()

    gradients = jax.jit(jax.grad(value, argnums=(0, 1)))(rows, columns)
    step = 1e-6
    for number in range(2):
        place = (1, 2, 1)
        moved = [np.array(a) for a in (rows, columns)]
        moved[number][place] += step
        np.testing.assert_allclose(
            gradients[number][place], (value(*moved) - value(rows, columns)) / step, rtol=1e-4
        )


def test_boxes_are_scaled_corner_to_corner_and_are_zero_outside():
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.normal(size=(2, 6, 8, 3)).astype(np.float32))
    whole = jnp.float32([[[0, 0, 6, 8]]] * 2)
    np.testing.assert_allclose(cut_out(images, whole, (6, 8))[:, 0], images, atol=1e-6)
    boxes = jnp.float32([[[1, 2, 4, 6], [-3, -4, 3, 4], [6, 0, 9, 4]]] * 2)
    found = cut_out(images, boxes, (3, 4))
    np.testing.assert_allclose(found[:, 0], images[:, 1:4, 2:6], atol=1e-6)
    larger = cut_out(images, boxes, (6, 8))[:, 1]  # a corner of it is the image's
    np.testing.assert_allclose(larger[:, 3:, 4:], images[:, :3, :4], atol=1e-6)
    assert not larger[:, :3].any()
    assert not found[:, 2].any()

    def outside(moved):
        return cut_out(images, boxes[:, 2:] + moved, (3, 4)).sum()

    assert jax.jit(jax.grad(outside))(0.25) == 0
    # A shift by whole pixels inside the image is a shift of the crop.
    one, other = (cut_out(images, jnp.float32([[[t, 1, 4 + t, 6]] * 3] * 2), (3, 4)) for t in (0, 2))
    shifted = cut_out(jnp.roll(images, -2, axis=1), jnp.float32([[[0, 1, 4, 6]] * 3] * 2), (3, 4))
    np.testing.assert_allclose(other, shifted, atol=1e-6)
    assert not np.allclose(one, other, atol=0.1)
