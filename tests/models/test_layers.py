"""Pooling against loops, batch norm against flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.models.layers import BatchNorm, max_pool


def windows(length, size, stride, padding, ceil):
    """Beginnings of PyTorch's windows: with `ceil` a last one that is cut off, if it begins inside."""
    begins = list(range(-padding, length + padding - size + 1, stride))
    following = begins[-1] + stride
    if ceil and begins[-1] + size < length + padding and following < length:
        begins.append(following)
    return begins


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1)])
@pytest.mark.parametrize("shape", [(7, 8), (9, 6), (5, 12)])
def test_max_pool_takes_pytorchs_windows(shape, size, stride, padding, ceil):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32) - 5  # zeros would win
    rows, columns = (windows(n, size, stride, padding, ceil) for n in shape)
    expected = np.empty((2, len(rows), len(columns), 3), np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = x[:, max(row, 0) : row + size, max(column, 0) : column + size]
            expected[:, i, j] = window.max((1, 2))
    assert np.array_equal(max_pool(jnp.asarray(x), size, stride, padding=padding, ceil=ceil), expected)


@pytest.mark.parametrize("running", [False, True])
def test_batch_norm_is_flaxs_in_values_gradients_and_statistics(running):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(2.0, 3.0, (5, 4, 3, 7)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)

    def of(kind):
        graph, state = nnx.split(kind(7, momentum=0.8, epsilon=1e-3, dtype=jnp.float32, rngs=nnx.Rngs(0)))
        state = jax.tree.map(lambda leaf: leaf + jnp.linspace(0.1, 1, 7), state)

        def loss(state, x):
            norm = nnx.merge(graph, state)
            values = norm(x, use_running_average=running)
            return (values**2 * weights).sum(), (values, norm.mean[...], norm.var[...])

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(state, x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), of(BatchNorm), of(nnx.BatchNorm))
