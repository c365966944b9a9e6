"""Pooling over folded images is XLA's pooling, also inside functions that a jaxpr calls."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.inference.plain_windows import with_plain_windows


@pytest.mark.parametrize("pool", [nnx.max_pool, nnx.avg_pool])
@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [((3, 3), (2, 2), ((1, 1), (1, 1))), ((2, 3), (2, 1), "VALID"), ((3, 2), (3, 2), "SAME")],
)
def test_windows_are_those_of_xla(pool, window, strides, padding):
    def network(images):
        inner = jax.jit(lambda x: nnx.relu(pool(x, window, strides=strides, padding=padding)))
        return inner(images - 1), images.sum()

    images = jnp.asarray(np.random.default_rng(0).normal(0, 3, (2, 11, 8, 3)), np.float32)
    traced = jax.make_jaxpr(network)(images)
    plain = with_plain_windows(traced)
    sizes = [
        re.findall(r"window_dimensions=\(([^)]*)\)", str(program))
        for program in (traced, jax.make_jaxpr(plain)(images))
    ]
    assert [len(size.split(",")) for size in sizes[0]] == [4]
    assert [len(size.split(",")) for size in sizes[1]] == [3]
    for ours, theirs in zip(plain(images), network(images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_windows_over_channels_stay():
    traced = jax.make_jaxpr(
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 1, 2), (1, 1, 1, 1), "VALID")
    )(jnp.ones((2, 3, 3, 4)))
    assert str(jax.make_jaxpr(with_plain_windows(traced))(jnp.ones((2, 3, 3, 4)))) == str(traced)
