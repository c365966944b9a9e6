"""Bytes to what a network takes, and to what its weights expect."""

import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.models.pixels import normalize_images, scale_input
from cdml_jax.models.spec import STYLES

BYTES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_fill_the_range_from_minus_one_to_one(dtype, float64):
    actual = normalize_images(jnp.asarray(BYTES), dtype)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, np.linspace(-1, 1, 256), rtol=0, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("style", STYLES)
def test_bytes_become_what_the_weights_expect(style):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    convention = STYLES[style]
    expected = (pixels / 255 - np.array(convention.mean)) / np.array(convention.std)
    actual = scale_input(normalize_images(jnp.asarray(pixels)), convention)
    np.testing.assert_allclose(actual, expected, atol=2e-6)
