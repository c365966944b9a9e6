"""The convolution by shifts against XLA's grouped one, and what `nnx.Conv` makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.models.depthwise import _grouped, depthwise_convolution


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 9, 12, 5)), rng.normal(size=(3, 3, 1, 5))
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 2), (1, 0))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
def test_values_and_gradients_are_those_of_the_grouped_convolution(arrays, strides, padding):
    def theirs(x, kernel):
        pads = padding
        if isinstance(pads, str):
            pads = jax.lax.padtype_to_pads((9, 12), (3, 3), strides, pads)
        return _grouped(x, kernel, strides=strides, pads=tuple(pads))

    def ours(x, kernel):
        return depthwise_convolution(x, kernel, strides, padding)

    expected, pull = jax.vjp(theirs, *arrays)
    actual, our_pull = jax.vjp(ours, *arrays)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    gradient = jnp.asarray(np.random.default_rng(1).normal(size=expected.shape), jnp.float32)
    for got, wanted in zip(our_pull(gradient), pull(gradient), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_bfloat16_is_added_in_float32(arrays):
    narrow = [array.astype(jnp.bfloat16) for array in arrays]
    actual = depthwise_convolution(*narrow, (1, 1), "SAME")
    exact = _grouped(*(a.astype(jnp.float32) for a in narrow), strides=(1, 1), pads=((1, 1), (1, 1)))
    assert actual.dtype == jnp.bfloat16
    assert jnp.array_equal(actual, exact.astype(jnp.bfloat16))


def test_each_platform_compiles_its_own_form(arrays):
    """Lowered for a GPU from here: one grouped convolution and no sum of shifts; the reverse on a CPU."""
    traced = jax.jit(lambda x, k: depthwise_convolution(x, k, (1, 1), "SAME")).trace(*arrays)
    counts = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")
        for platform in ("cpu", "cuda")
    }
    assert counts == {"cpu": 0, "cuda": 1}


def test_a_batch_split_over_devices_gives_the_same(arrays):
    x, kernel = jnp.concatenate([arrays[0]] * 4) * jnp.arange(1.0, 9)[:, None, None, None], arrays[1]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

    @jax.jit
    def gradients(x, kernel):
        return jax.grad(lambda *a: (depthwise_convolution(*a, (2, 2), "SAME") ** 2).sum(), (0, 1))(x, kernel)

    for one, split in zip(gradients(x, kernel), gradients(jax.device_put(x, rows), kernel), strict=True):
        np.testing.assert_allclose(split, one, rtol=1e-5, atol=1e-3)
