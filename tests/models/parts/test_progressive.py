"""Heads on three stages: their values by hand, their sizes, and how many operations they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models import Spec, build
from cdml_jax.models.heads import Outputs
from cdml_jax.models.parts.progressive import ProgressiveStages, PublishedStages


class _Network:
    """As much of a network as the part asks for."""

    def __init__(self, *channels):
        self.channels = channels

    def stage_channels(self, number):
        return self.channels[-number:]


def shapes_of(kind, *channels):
    part = nnx.eval_shape(lambda: kind(_Network(*channels), None, Spec(num_classes=5), rngs=nnx.Rngs(0)))
    convolutions = [module.conv.kernel.shape for module in (*part.first, *part.second)]
    return part.features, convolutions, [dense.linear.kernel.shape for dense in (*part.dense, part.all)]


def test_widths_follow_the_network_and_are_the_published_ones_of_resnet50():
    resnet50 = shapes_of(ProgressiveStages, 512, 1024, 2048)
    assert resnet50 == shapes_of(PublishedStages, 512, 1024, 2048)
    assert resnet50 == (
        512,
        [(1, 1, 512, 512), (1, 1, 1024, 512), (1, 1, 2048, 512), *[(3, 3, 512, 1024)] * 3],
        [*[(1024, 512)] * 3, (3072, 512)],
    )
    assert shapes_of(ProgressiveStages, 8, 16, 32)[1][3:] == [(3, 3, 8, 16)] * 3


def test_the_values_are_those_by_hand(float64):
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(4, side, side, size)) for side, size in ((4, 6), (2, 8), (1, 12))]
    spec = Spec(num_classes=5, dtype="float64")
    part = ProgressiveStages(_Network(6, 8, 12), None, spec, rngs=nnx.Rngs(0))
    features, said = part(*map(jnp.asarray, maps), train=True)

    def normed(x):
        axes = tuple(range(x.ndim - 1))
        return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)

    def dense(layer, v):
        x = normed(normed(v) @ np.asarray(layer.linear.kernel) + np.asarray(layer.linear.bias))
        return np.where(x > 0, x, np.expm1(x))

    pooled = []
    for x, first, second in zip(maps, part.first, part.second):
        x = np.maximum(normed(x @ np.asarray(first.conv.kernel)[0, 0]), 0)
        side, kernel = x.shape[1], np.asarray(second.conv.kernel)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [padded[:, i : i + side, j : j + side] @ kernel[i, j] for i in range(3) for j in range(3)]
        pooled.append(np.maximum(normed(sum(shifted)), 0).max((1, 2)))
    for place in range(3):
        classifier = part.classifiers[place]
        expected = dense(part.dense[place], pooled[place]) @ np.asarray(classifier.kernel)
        np.testing.assert_allclose(said[f"stage{place + 1}_logits"], expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(features, dense(part.all, np.concatenate(pooled, 1)), rtol=1e-6, atol=1e-8)
    predicted = part.predicted(Outputs(jnp.ones((4, 5)), jnp.zeros((4, 2))), said)
    np.testing.assert_allclose(predicted.logits, 1 + sum(said.values()))


def test_operations_are_those_of_the_formula():
    """Of each stage P (c a + 9 a b) products: 1.28 times a whole ResNet-50 at 448 pixels."""
    widths, sides = (64, 128, 256), (28, 14, 7)
    part = ProgressiveStages(_Network(*widths), None, Spec(num_classes=5), rngs=nnx.Rngs(0))
    maps = [jax.ShapeDtypeStruct((1, n, n, c), jnp.float32) for n, c in zip(sides, widths)]
    lowered = jax.jit(lambda *maps: part(*maps, train=False)).lower(*maps)
    a, b = 64, 128
    expected = sum(n * n * (c * a + 9 * a * b) for n, c in zip(sides, widths))
    assert lowered.cost_analysis()["flops"] / 2 == pytest.approx(expected, rel=0.1)
    at_448 = zip((56, 28, 14), (512, 1024, 2048))
    assert sum(n * n * (c * 512 + 9 * 512 * 1024) for n, c in at_448) / 16.35e9 == pytest.approx(
        1.28, abs=0.01
    )


def test_a_network_without_three_sizes_of_maps_is_refused():
    with pytest.raises(UserError, match="3 maps of different sizes are needed"):
        nnx.eval_shape(lambda: build("vit_small_patch16", Spec(num_classes=3), rngs=nnx.Rngs(0), part="pmg"))


def test_images_too_small_to_be_halved_are_refused():
    """Of 8 pixels small_resnet's last block keeps the size of a map, and the three stages would be others."""
    part = ProgressiveStages(_Network(8, 12, 16), None, Spec(num_classes=5), rngs=nnx.Rngs(0))
    maps = [jnp.zeros((1, n, n, c)) for n, c in ((4, 8), (2, 8), (1, 16))]
    with pytest.raises(UserError, match=r"image_size: .* \[8, 8, 16\] channels.* \[8, 12, 16\]; take larger"):
        part(*maps, train=False)
