"""Crops that a network places: where they begin, their size, the copied trunk, and operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.data.classes import Classes
from cdml_jax.models import NETWORKS, Network, Spec, Variant, build
from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import ConvNorm, mean_pool
from cdml_jax.models.parts.part import source_of
from cdml_jax.models.parts.spatial_transformer import SpatialTransformer
from cdml_jax.models.spec import TORCHVISION
from cdml_jax.models.weights.files import read_weights
from cdml_jax.models.weights.loading import fill_weights, save_weights
from cdml_jax.runs.beginning import _Beginning
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.system.trees import named_leaves
from cdml_jax.training.state import split_model

SPEC = Spec(num_classes=5, embedding_size=4)


class Pixels:
    """As much of a network as the part calls; its pooled features are the crops themselves."""

    patch, blocks, pool_names, map_channels = 1, (), (), 3

    def front(self, crops, blocks, *, train):
        return crops.reshape(len(crops), -1)


def looked(images, places):
    """Crops of images (batch, height, width, 3) at places (batch, 2, 2), of what size and where."""
    part = object.__new__(SpatialTransformer)
    seen = []

    def localization(small, *, train):
        seen.append(small.shape[1:3])
        return places

    object.__setattr__(part, "localization", localization)
    size = [min(side, 224) for side in images.shape[1:3]]
    object.__setattr__(part, "features", 2 * 3 * size[0] * size[1])
    features, _ = part.look(Pixels(), images, train=True)
    assert seen == [tuple(size)]
    return features.reshape(len(images), 2, *size, 3)


def ramp(height, width):
    values = 2 * np.arange(width) + 10 * np.arange(height)[:, None]
    return jnp.asarray(np.broadcast_to(values[None, :, :, None], (1, height, width, 3)), jnp.float32)


def test_crops_are_half_as_large_and_lie_where_they_are_placed():
    # (t_x, t_y) = (.25, -.5) of the published values, of 5 x 5 pixels; there 3 x 3 were taken, here 5 x 5.
    crops = looked(ramp(5, 5), jnp.float32([[[-0.5, 0.25], [0, 0]]]))
    np.testing.assert_allclose(crops[0, 0, ::2, ::2, 0], [[3, 5, 7], [13, 15, 17], [23, 25, 27]], atol=1e-5)
    np.testing.assert_allclose(
        crops[0, 1, ::2, ::2, 0], [[12, 14, 16], [22, 24, 26], [32, 34, 36]], atol=1e-5
    )


def test_crops_of_larger_images_are_a_closer_look():
    image = ramp(447, 447)
    crops = jax.jit(lambda image: looked(image, jnp.float32([[[-0.5, -0.5], [0.5, 0.5]]])))(image)
    np.testing.assert_allclose(crops[0, 0], image[0, :224, :224], atol=0.05)
    np.testing.assert_allclose(crops[0, 1], image[0, 223:, 223:], atol=0.05)


class Small(Network):
    """A convolution with batch norm, and one more."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec)
        norm = functools.partial(ConvNorm, spec=spec, convention=TORCHVISION, stride=2, rngs=rngs)
        self.stem, self.blocks = norm(3, 4, 3), nnx.List([norm(4, 6, 3)])
        self.heads = Heads(6, spec, rngs=rngs)

    def enter(self, images, *, train):
        return self.stem(images, train=train)

    def pool(self, x, *, train):
        return mean_pool(x)


@pytest.fixture
def small(monkeypatch):
    """Makes the network, with a part or without."""
    monkeypatch.setitem(NETWORKS, "small", Variant(Small))
    return lambda seed, part="": build("small", SPEC, rngs=nnx.Rngs(seed), part=part)


def test_crops_begin_as_the_halves_and_the_localization_network_as_the_network(small):
    network = small(0, "spatial_transformer")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype(np.float32))
    _, said = jax.jit(lambda images: network.observe_images(images, train=False))(images)
    np.testing.assert_array_equal(said["places"], [[[0, -0.5], [0, 0.5]]] * 3)
    leaves = dict(named_leaves(nnx.as_pure(nnx.state(network))))
    copies = {name: source_of(name) for name in leaves if source_of(name) != name}
    assert set(copies.values()) == {name for name in leaves if not name.startswith(("heads", "part"))}
    for name, source in copies.items():
        np.testing.assert_array_equal(leaves[name], leaves[source])
        # A step uses its arrays up: none is there twice.
        assert leaves[name].unsafe_buffer_pointer() != leaves[source].unsafe_buffer_pointer()
    (slow,) = SpatialTransformer.rates
    assert all(name.startswith(f"{slow}.") for name in copies)


def test_weights_of_a_file_and_of_a_run_fill_the_copy_too(small, tmp_path):
    theirs = jax.tree.map(lambda a: np.asarray(a) + 0.25, split_model(small(7))[1:])
    ours = split_model(small(0, "spatial_transformer"))[1:]
    save_weights(tmp_path / "plain.safetensors", *theirs, {})
    file = read_weights(str(tmp_path / "plain.safetensors"))
    run = _Beginning(tmp_path, changed(defaults(), {"model.name": "small"}), Classes(tuple("abcde")))
    run.__dict__["_theirs"] = Weights(*theirs, None, 3), run.classes
    for trees in (fill_weights(file, *ours, network="small"), run(*ours)):
        for tree, stored in zip(trees, theirs):
            leaves, found = dict(named_leaves(tree)), dict(named_leaves(stored))
            copies = {name: found[source_of(name)] for name in leaves if ".trunk." in name}
            assert len(copies) == (4 if tree is trees[1] else 6)
            for name, leaf in copies.items():
                np.testing.assert_allclose(leaves[name], leaf, rtol=1e-3)
                assert leaves[name] is not leaves[source_of(name)]


def test_operations_are_three_networks_and_the_samples():
    network = nnx.eval_shape(
        lambda: build("small_resnet", SPEC, rngs=nnx.Rngs(0), part="spatial_transformer")
    )
    graph, state = nnx.split(network)
    side = 64

    def count(function):
        images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        return jax.jit(function).lower(state, images).cost_analysis()["flops"] / 2

    trunk = count(lambda state, x: nnx.merge(graph, state).front(x, 9, train=False))
    whole = count(lambda state, x: nnx.merge(graph, state)(x, train=False).logits)
    samples, places = 2 * 3 * 2 * side**3, 16 * 128 * 128 + 49 * 128 * 128
    assert whole == pytest.approx(3 * trunk + samples + places, rel=0.05)
