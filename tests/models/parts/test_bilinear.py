"""Bilinear pooling by hand, its sketch by Fourier transforms, and how many operations they take."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Spec, build, vgg
from cdml_jax.models.parts import bilinear
from cdml_jax.models.parts.bilinear import Hashes, hashes, outer_product, signed_root, tensor_sketch
from cdml_jax.models.weights.files import WeightFile
from cdml_jax.models.weights.loading import fill_weights
from cdml_jax.training.state import split_model

WIDE = jnp.dtype("float64")


def small(name, part, **options):
    return build(name, Spec(num_classes=3, embedding_size=4, **options), rngs=nnx.Rngs(0), part=part)


def shapes_of(name, part=""):
    model = nnx.eval_shape(lambda: small(name, part))
    return {key: leaf.shape for key, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))}, model


@pytest.fixture
def maps():
    """Signed features of 3 images with 5 x 4 positions, of very unequal size."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 5, 4, 24)) * 10 ** rng.uniform(-1, 1, (3, 1, 1, 24))


def test_the_values_of_two_positions(float64, monkeypatch):
    x = jnp.array([[[1.0, 2.0], [3.0, 0.0]]])
    products = outer_product(x, WIDE)
    np.testing.assert_array_equal(products, [[[5, 1], [1, 2]]])
    root = signed_root(products, epsilon=0.0).ravel()
    np.testing.assert_allclose(
        root / np.linalg.norm(root), [0.7453559925, 1 / 3, 1 / 3, 0.4714045208], rtol=1e-9
    )
    drawn = Hashes(np.int32([0, 3]), np.float32([1, -1]), np.int32([1, 2]), np.float32([1, 1]))
    monkeypatch.setattr(bilinear, "hashes", lambda channels, size: drawn)
    bilinear._places_by_sum.cache_clear()
    try:
        np.testing.assert_allclose(tensor_sketch(x[:, :1], 4, WIDE), [[-2, -3, 2, 0]])
        np.testing.assert_allclose(tensor_sketch(x, 4, WIDE), [[-1, 3, 1, 0]])
    finally:
        bilinear._places_by_sum.cache_clear()


def test_pooling_is_the_one_by_hand_on_signed_features(float64, maps):
    part = bilinear.Bilinear(_Network(24), None, Spec(num_classes=3, dtype="float64"), rngs=nnx.Rngs(0))
    assert part.features == 24**2
    found, said = part(jnp.asarray(maps), train=True)
    assert not said
    for image, ours in zip(maps.reshape(3, 20, 24), found):
        mean = sum(np.outer(x, x) for x in image) / 20
        assert (mean < 0).any()
        root = np.sqrt(np.maximum(mean, 0) + 1e-5) - np.sqrt(np.maximum(-mean, 0) + 1e-5)
        np.testing.assert_allclose(ours, root.ravel() / np.linalg.norm(root), rtol=1e-10, atol=1e-12)
    mixed = maps.reshape(3, 20, 24)[:, np.random.default_rng(1).permutation(20)].reshape(maps.shape)
    np.testing.assert_allclose(part(jnp.asarray(mixed), train=True)[0], found, rtol=1e-9, atol=1e-12)
    # But for epsilon, a larger map is the same.
    larger = part(jnp.asarray(1e4 * maps), train=True)[0], part(jnp.asarray(1e6 * maps), train=True)[0]
    np.testing.assert_allclose(*larger, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at_once", [2**19, 24 * 8, 1])
def test_the_sketch_is_that_of_fourier_transforms_however_much_is_held(float64, maps, monkeypatch, at_once):
    monkeypatch.setattr(bilinear, "AT_ONCE", at_once)
    bilinear._places_by_sum.cache_clear()
    size, drawn = 64, hashes(24, 64)
    x = maps.reshape(3, 20, 24)

    def transformed(values, place, sign):
        return np.fft.fft(np.bincount(place, weights=sign * values, minlength=size))

    expected = [
        np.mean(
            [np.fft.ifft(transformed(v, *drawn[:2]) * transformed(v, *drawn[2:])).real for v in image], axis=0
        )
        for image in x
    ]
    np.testing.assert_allclose(tensor_sketch(jnp.asarray(x), size, WIDE), expected, rtol=1e-9, atol=1e-9)
    check_grads(lambda x: tensor_sketch(x, size, WIDE), (jnp.asarray(x[:2, :3]),), 1, modes=["rev"])
    bilinear._places_by_sum.cache_clear()


def test_sketches_keep_the_kernel_on_average():
    """⟨φ(a), φ(b)⟩ is ⟨a, b⟩² over the hashes, here over channels that meet different ones."""
    rng = np.random.default_rng(3)
    a, b = np.abs(rng.normal(size=(2, 16)))
    found = []
    for _ in range(300):
        order = rng.permutation(512)[:16]
        pair = np.zeros((2, 1, 512), np.float32)
        pair[0, 0, order], pair[1, 0, order] = a, b
        found.append(pair)
    sketches = np.asarray(
        jax.jit(lambda x: tensor_sketch(x, 512, jnp.dtype("float32")))(np.concatenate(found))
    )
    products = (sketches[::2] * sketches[1::2]).sum(1)
    assert abs(products.mean() - (a @ b) ** 2) < 4 * products.std() / np.sqrt(300)


@pytest.mark.parametrize(
    ("name", "part", "features"),
    [
        ("vgg16", "bilinear", 512**2),
        ("small_resnet", "compact_bilinear", 8192),
    ],
)
def test_any_family_has_it_and_begins_as_ever(name, part, features):
    plain, _ = shapes_of(name)
    own, model = shapes_of(name, part)
    assert model.heads.classifier.in_features == model.part.features == features
    # What the pooling alone uses is gone: VGG's two dense layers are 119.5 million numbers.
    gone = {key[0] for key in set(plain) - set(own)}
    assert gone == set(NETWORKS[name].family.pool_names)
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    logits, embeddings = nnx.eval_shape(lambda m, x: m(x, train=False), model, images)
    assert (logits.shape, embeddings.shape) == ((2, 3), (2, 4))


def test_a_file_of_weights_fits_without_the_layers_of_the_pooling(monkeypatch):
    sizes = {"DEPTHS": {16: (1, 2)}, "WIDTHS": (4, 6), "FEATURES": 8, "GRID": 2}
    for constant, value in sizes.items():
        monkeypatch.setattr(vgg, constant, value)
    rng, values = np.random.default_rng(0), {}
    shapes = {"features.0": (4, 3, 3, 3), "features.3": (6, 4, 3, 3), "features.5": (6, 6, 3, 3)}
    dense = {"classifier.0": (8, 24), "classifier.3": (8, 8), "classifier.6": (9, 8)}
    for name, shape in (shapes | dense).items():
        values[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        values[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    for part in ("", "bilinear"):
        trees = split_model(small("vgg16", part))[1:]
        file = WeightFile(values, {}, Path("vgg16.pth"))
        parameters, _ = fill_weights(file, *trees, network="vgg16")
        found = parameters["blocks"][1]["convolutions"][1]["kernel"]
        np.testing.assert_array_equal(found, values["features.5.weight"].transpose(2, 3, 1, 0))
        assert ("dense1" in parameters) == (not part)
        more = WeightFile(values | {"classifier.9.bias": values["features.0.bias"]}, {}, Path("vgg16.pth"))
        with pytest.raises(UserError, match=r"not in the network: classifier\.9\.bias"):
            fill_weights(more, *trees, network="vgg16")


def test_a_wide_map_is_reduced_first(maps):
    part = bilinear.Bilinear(_Network(1024), None, Spec(num_classes=3), rngs=nnx.Rngs(0))
    assert part.reduction.kernel.shape == (1, 1, 1024, 128)
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 1024)).astype(np.float32)
    reduced = x.reshape(2, 6, 1024) @ part.reduction.kernel[0, 0]
    expected = signed_root(outer_product(reduced, jnp.dtype("float32"))).reshape(2, -1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(part(jnp.asarray(x), train=True)[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("part", ["bilinear", "compact_bilinear"])
def test_operations_are_those_of_the_formula(part):
    """N² P products an image; the gradient adds twice as many, or by symmetry, if compact, as many."""
    positions, channels, batch = 196, 256, 2
    pool = _pooling(part, channels)
    x = jax.ShapeDtypeStruct((batch, 14, 14, channels), jnp.float32)
    products = batch * positions * channels**2
    forward = jax.jit(pool).lower(x).compile().cost_analysis()["flops"] / 2
    assert products < forward < 1.25 * products
    both = jax.jit(jax.grad(lambda x: pool(x).sum())).lower(x).compile().cost_analysis()["flops"] / 2
    factor = 3 if part == "bilinear" else 2
    assert factor * products < both < 1.25 * factor * products


def _pooling(part, channels):
    kind = {"bilinear": bilinear.Bilinear, "compact_bilinear": bilinear.CompactBilinear}[part]
    made = kind(_Network(channels), None, Spec(num_classes=3), rngs=nnx.Rngs(0))
    return lambda x: made(x, train=True)[0]


class _Network:
    """As much of a network as a part asks for."""

    def __init__(self, map_channels):
        self.map_channels = map_channels
