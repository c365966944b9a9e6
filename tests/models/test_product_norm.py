"""Forms for TPUs are those for all devices, to rounding: norms of products, the maximum before the norm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cdml_jax.models import Spec
from cdml_jax.models.layers import BatchNorm, ConvNorm
from cdml_jax.models.product_norm import norm_of_product
from cdml_jax.models.resnet import Block
from cdml_jax.models.spec import TORCHVISION

RNG = np.random.default_rng(0)


def test_norm_of_a_product_is_that_of_the_convolution_in_values_gradients_and_statistics(float64):
    x = RNG.normal(0.4, 1.5, (3, 5, 4, 6))
    kernel, weights = RNG.normal(size=(6, 11)), RNG.normal(size=(3, 5, 4, 11))
    scale, bias = RNG.normal(size=11), RNG.normal(size=11)  # of both signs
    scale[3], kernel[:, 5] = 0, 0  # neither a scale nor a variance need be there

    def plain(x, kernel, scale, bias):
        y = x @ kernel
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        return (y - mean) / jnp.sqrt(variance + 1e-3) * scale + bias, mean, variance

    def all_of(function):
        def loss(*arguments):
            found = function(*arguments)
            return (found[0] ** 3 * weights).sum(), found

        return jax.grad(loss, (0, 1, 2, 3), has_aux=True)(*map(jnp.asarray, (x, kernel, scale, bias)))

    ours = all_of(functools.partial(norm_of_product, epsilon=1e-3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-9), ours, all_of(plain))


def of(module, x, weights):
    """Gradients, values and statistics of a module in training, as numpy."""
    graph, parameters, statistics = nnx.split(module, nnx.Param, nnx.BatchStat)
    statistics = jax.tree.map(lambda leaf: leaf.astype(weights.dtype), statistics)  # flax has float32

    @jax.jit
    def run(parameters, statistics, x):
        def loss(parameters, x):
            model = nnx.merge(graph, parameters, statistics, copy=True)
            y = call(model, x)
            return (y.astype(weights.dtype) ** 2 * weights).sum(), (y, nnx.state(model, nnx.BatchStat))

        call = ConvNorm.pooled if isinstance(module, ConvNorm) else type(module).__call__
        call = functools.partial(call, train=True)
        return jax.grad(loss, (0, 1), has_aux=True)(parameters, x)

    return [np.asarray(leaf) for leaf in jax.tree.leaves(run(parameters, statistics, x))]


def made(kind, dtype, platform):
    """A residual block or a stem with scales of both signs, the same for each platform."""
    spec = Spec(num_classes=2, dtype=dtype, platform=platform)
    conv_norm = functools.partial(ConvNorm, spec=spec, convention=TORCHVISION, rngs=nnx.Rngs(0))
    module = Block(8, 8, 1, True, conv_norm) if kind == "block" else conv_norm(8, 6, 7, stride=2)
    rng = np.random.default_rng(7)
    for _, part in nnx.iter_graph(module):
        if isinstance(part, nnx.Conv):
            shape, inputs = part.kernel.shape, np.prod(part.kernel.shape[:3])
            part.kernel[...] = rounded(rng.normal(size=shape) * inputs**-0.5).astype(part.kernel.dtype)
        if isinstance(part, BatchNorm):
            part.scale[...] = jnp.linspace(-1.1, 1.3, part.num_features, dtype=part.scale.dtype)
            part.bias[...] = jnp.linspace(0.4, -0.3, part.num_features, dtype=part.bias.dtype)
    return module


def rounded(x):
    """What bfloat16 has of it, in float64."""
    return x.astype(jnp.bfloat16).astype(np.float64)


@pytest.mark.parametrize("kind", ["block", "stem"])
def test_forms_for_tpus_change_nothing_in_exact_arithmetic(kind, float64):
    x, other = RNG.normal(size=(4, 12, 10, 8)), RNG.normal(size=(4, 12, 10, 32))
    weights = other if kind == "block" else other[:, :3, :3, :6]
    sides = [of(made(kind, "float64", platform), jnp.asarray(x), weights) for platform in ("", "tpu")]
    for a, b in zip(*sides, strict=True):
        np.testing.assert_allclose(a, b, 1e-8, 1e-10)


def test_forms_for_tpus_in_bfloat16_are_as_near_to_exact_ones_as_the_others(float64):
    x, weights = rounded(RNG.normal(0.5, 1, (16, 12, 12, 8))), RNG.normal(size=(16, 12, 12, 32))
    exact = of(made("block", "float64", ""), jnp.asarray(x), weights)
    errors = []
    for platform in ("", "tpu"):
        found = of(made("block", "bfloat16", platform), jnp.asarray(x, jnp.float32), weights.astype("f4"))
        pairs = ((a.astype("f8"), b) for a, b in zip(found, exact, strict=True))
        errors.append([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs])
    others, ours = map(np.asarray, errors)
    assert ours.max() < 0.1  # of gradients behind masks, which bfloat16 changes here and there
    assert np.all(ours < 1.5 * others + 2e-3), (ours, others)


def test_forms_for_tpus_are_chosen_for_them_alone_and_in_training_alone():
    def text(platform, dtype="bfloat16", train=True):
        graph, state = nnx.split(made("block", dtype, platform))

        def run(state, x):
            return nnx.merge(graph, state, copy=True)(x, train=train)

        return str(jax.make_jaxpr(run)(state, jnp.ones((2, 4, 4, 8))))

    assert "norm_of_product" in text("tpu")
    for same in ({"platform": "cpu"}, {"platform": "gpu"}):
        assert text(**same) == text("")
    assert text("tpu", train=False) == text("", train=False)
    assert text("tpu", "float32") == text("", "float32")


def test_the_statistics_are_those_of_rows_on_all_devices():
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    x = jnp.asarray(RNG.normal(size=(2 * mesh.size, 3, 3, 4)), jnp.float32)
    weights = jnp.asarray(RNG.normal(size=(2 * mesh.size, 3, 3, 9)), jnp.float32)
    kernel, scale = jnp.asarray(RNG.normal(size=(4, 9)), jnp.float32), jnp.linspace(-1, 2, 9)

    @jax.jit
    def run(x, kernel):
        def loss(x, kernel):
            found = norm_of_product(x, kernel, scale, scale, 1e-5)
            return (found[0] ** 2 * weights).sum(), found

        return jax.grad(loss, (0, 1), has_aux=True)(x, kernel)

    alone = run(x, kernel)
    split = run(jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))), kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), split, alone)
