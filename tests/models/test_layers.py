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


@pytest.mark.parametrize("shape", [(6, 3, 2, 5), (6, 5)])
def test_groups_of_rows_have_statistics_of_their_own(shape):
    """Values, running statistics and gradients against each group by itself, in float64 numpy."""
    rng = np.random.default_rng(1)
    groups, momentum, epsilon = 3, 0.8, 1e-3
    x = rng.normal(2.0, 3.0, shape) * rng.uniform(0.5, 2, (6, *[1] * (len(shape) - 1)))
    weights, scale, bias = rng.normal(size=shape), rng.uniform(0.5, 2, 5), rng.normal(size=5)

    def of_group(x, weights):
        """Values, mean, variance, and the gradient of Σ weights · values with respect to x."""
        axes, count = tuple(range(x.ndim - 1)), x.size / 5
        mean, variance = x.mean(axes), x.var(axes)
        normal = (x - mean) / np.sqrt(variance + epsilon)
        inner = weights.sum(axes) + normal * (weights * normal).sum(axes)
        gradient = scale / np.sqrt(variance + epsilon) * (weights - inner / count)
        return normal * scale + bias, mean, variance, gradient

    parts = [of_group(*part) for part in zip(np.split(x, groups), np.split(weights, groups))]
    values, means, variances, gradients = (list(each) for each in zip(*parts))

    norm = BatchNorm(5, momentum=momentum, epsilon=epsilon, dtype=jnp.float32, rngs=nnx.Rngs(0))
    norm.groups = groups
    norm.scale[...], norm.bias[...] = jnp.float32(scale), jnp.float32(bias)
    graph, state = nnx.split(norm)
    state = nnx.as_pure(state)

    def loss(x, state):
        norm = nnx.merge(graph, state)
        found = norm(x, use_running_average=False)
        return (found * weights).sum(), (found, norm.mean[...], norm.var[...])

    ours, (found, mean, variance) = jax.grad(loss, has_aux=True)(jnp.float32(x), state)
    np.testing.assert_allclose(found, np.concatenate(values), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours, np.concatenate(gradients), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(mean, 0.2 * np.mean(means, axis=0), rtol=1e-4)
    np.testing.assert_allclose(variance, 0.8 + 0.2 * np.mean(variances, axis=0), rtol=1e-4)
    alike = np.concatenate([of_group(x, weights)[0]])
    assert np.abs(alike - found).max() > 0.1, "the groups are those of the whole"
    evaluated = nnx.merge(graph, state)(jnp.float32(x), use_running_average=True)  # mean 0 and variance 1 yet
    np.testing.assert_allclose(evaluated, x / np.sqrt(1 + epsilon) * scale + bias, rtol=1e-4, atol=1e-5)
