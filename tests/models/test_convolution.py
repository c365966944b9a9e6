"""Convolutions in the forms for CPUs against XLA's own, and what each platform compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.distributed.collectives import collectives
from cdml_jax.models.convolution import _shifted, convolution

CHANNELS = 5
LAYOUT = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
KERNELS = {
    "each channel": ((3, 3, 1, CHANNELS), CHANNELS),
    "1 x 1": ((1, 1, CHANNELS, 7), 1),
    "few channels": ((3, 3, CHANNELS, 7), 1),
}


@pytest.fixture(params=KERNELS)
def case(request):
    """Images, a kernel, and in how many groups of channels it sees them."""
    shape, groups = KERNELS[request.param]
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 9, 12, CHANNELS)), rng.normal(size=shape)
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), groups


def xla(x, kernel, strides, padding, groups):
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, feature_group_count=groups, **LAYOUT)


def ours(x, kernel, strides, padding, groups):
    return convolution(x, kernel, strides, padding, feature_group_count=groups, **LAYOUT)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 2), (1, 0))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
def test_values_and_gradients_are_those_of_xla(case, strides, padding):
    *arrays, groups = case
    expected, pull = jax.vjp(lambda *a: xla(*a, strides, padding, groups), *arrays)
    actual, our_pull = jax.vjp(lambda *a: ours(*a, strides, padding, groups), *arrays)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    gradient = jnp.asarray(np.random.default_rng(1).normal(size=expected.shape), jnp.float32)
    for got, wanted in zip(our_pull(gradient), pull(gradient), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 2), (1, 0))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
def test_the_form_for_gpus_has_the_values_and_gradients_of_xla(strides, padding):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in [(2, 9, 12, 5), (3, 3, 1, 5)]]
    expected, pull = jax.vjp(lambda *a: xla(*a, strides, padding, 5), *arrays)
    actual, our_pull = jax.vjp(
        lambda *a: _shifted(*a, strides=strides, pads=padding, in_pieces=False), *arrays
    )
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    gradient = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    for got, wanted in zip(our_pull(gradient), pull(gradient), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_bfloat16_is_added_in_float32(case):
    *arrays, groups = case
    narrow = [array.astype(jnp.bfloat16) for array in arrays]
    actual = ours(*narrow, (1, 1), "SAME", groups)
    exact = xla(*(a.astype(jnp.float32) for a in narrow), (1, 1), "SAME", groups)
    assert actual.dtype == jnp.bfloat16
    assert jnp.array_equal(actual, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("case", "others"),
    [("each channel", {"cuda": 0, "tpu": 1}), ("1 x 1", {"cuda": 1, "tpu": 1})],
    indirect=["case"],
)
def test_each_platform_compiles_its_own_form(case, others):
    """Lowered for each from here: how often XLA's own convolution is there."""
    *arrays, groups = case
    traced = jax.jit(lambda *a: ours(*a, (1, 1), "SAME", groups)).trace(*arrays)
    counts = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")
        for platform in ("cpu", "cuda", "tpu")
    }
    assert counts == {"cpu": 0} | others


@pytest.mark.parametrize("case", ["few channels"], indirect=True)
def test_few_channels_are_convolved_two_columns_at_a_time_on_a_cpu_alone(case):
    *arrays, groups = case
    traced = jax.jit(lambda *a: ours(*a, (1, 1), "SAME", groups)).trace(*arrays)
    texts = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert {name: "tensor<3x4x5x14xf32>" in text for name, text in texts.items()} == {
        "cpu": True,
        "cuda": False,
    }


def test_an_odd_width_is_left_to_xla():
    x, kernel = jnp.zeros((1, 6, 7, 4)), jnp.zeros((3, 3, 4, 4))
    text = jax.jit(lambda *a: ours(*a, (1, 1), "SAME", 1)).trace(x, kernel).lower().as_text()
    assert "tensor<3x4x" not in text


def test_other_kernels_are_left_to_xla():
    shapes = jnp.zeros((1, 4, 4, 6)), jnp.zeros((3, 3, 3, 4))
    text = jax.jit(lambda *a: ours(*a, (1, 1), "SAME", 2)).trace(*shapes).lower().as_text()
    assert text.count("stablehlo.convolution") == 1


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_a_batch_split_over_devices_gives_the_same_and_sends_only_the_kernels_gradient(case, strides):
    x, kernel, groups = case
    x = jnp.concatenate([x] * 4) * jnp.arange(1.0, 9)[:, None, None, None]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    split = jax.device_put(x, rows)

    @jax.jit
    def gradients(x, kernel):
        return jax.grad(lambda *a: (ours(*a, strides, "SAME", groups) ** 2).sum(), (0, 1))(x, kernel)

    for one, other in zip(gradients(x, kernel), gradients(split, kernel), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6 * float(jnp.abs(one).max()))
    found = collectives(gradients.lower(split, kernel).compile().as_text())
    assert [(each.kind, each.bytes) for each in found] == [("all-reduce", kernel.nbytes)]


@pytest.mark.parametrize("dilation", ["lhs_dilation", "rhs_dilation"])
def test_a_dilated_convolution_is_left_to_xla(case, dilation):
    x, kernel, groups = case
    pads = ((1, 1), (1, 1))
    others = LAYOUT | {dilation: (2, 2), "feature_group_count": groups}
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, **others)
    assert jnp.array_equal(convolution(x, kernel, (1, 1), pads, **others), expected)
