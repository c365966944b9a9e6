"""VGG's pooling to a fixed map."""

import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.models.layers import adaptive_mean_pool


@pytest.mark.parametrize("shape", [(2, 3), (7, 7), (11, 14), (16, 9)])
def test_windows_cover_the_map_whatever_its_size(shape):
    height, width = shape
    x = np.random.default_rng(0).normal(size=(2, height, width, 3))
    expected = np.empty((2, 7, 7, 3))
    for i in range(7):
        for j in range(7):
            rows = slice(int(np.floor(i * height / 7)), int(np.ceil((i + 1) * height / 7)))
            columns = slice(int(np.floor(j * width / 7)), int(np.ceil((j + 1) * width / 7)))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    actual = adaptive_mean_pool(jnp.asarray(x, jnp.float32), 7)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
