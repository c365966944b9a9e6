"""Pooling by shifted images is XLA's pooling, also inside functions that a jaxpr calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.inference.plain_windows import with_plain_windows


@pytest.mark.parametrize("pool", [nnx.max_pool, nnx.avg_pool])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [((3, 3), (2, 2), ((1, 1), (1, 1))), ((2, 3), (2, 1), "VALID"), ((3, 2), (3, 2), "SAME")],
)
def test_windows_are_those_of_xla(pool, dtype, window, strides, padding):
    def network(images):
        inner = jax.jit(lambda x: nnx.relu(pool(x, window, strides=strides, padding=padding)))
        return inner(images - 1), images.sum()

    images = jnp.asarray(np.random.default_rng(0).normal(0, 3, (2, 11, 8, 3)), dtype)
    plain = with_plain_windows(jax.make_jaxpr(network)(images))
    program = str(jax.make_jaxpr(plain)(images))
    assert "reduce_window" in str(jax.make_jaxpr(network)(images))
    assert "reduce_window" not in program
    for ours, theirs in zip(plain(images), network(images), strict=True):
        assert ours.dtype == dtype
        rounding = 4 * np.finfo(dtype).eps  # sums are added in another order, in the images' own dtype
        np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=4 * rounding)
