"""The maps that descriptors take: what the network pools, and the last finer one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models import Spec, build, vgg
from cdml_jax.models.layers import ConvNorm, max_pool
from cdml_jax.models.spec import TORCHVISION

SHAPES = {  # of the last map and of the earlier one, for images of 64 x 96; vision transformers below
    "small_resnet": ((4, 6, 128), (8, 12, 64)),
    "mobilenet_v2": ((2, 3, 1280), (4, 6, 576)),
    "efficientnet_lite0": ((2, 3, 1280), (4, 6, 672)),
    "resnet18": ((2, 3, 512), (4, 6, 256)),
    "googlenet": ((2, 3, 1024), (4, 6, 832)),
    "vgg16_bn": ((2, 3, 512), (4, 6, 512)),
    "vit_small_patch16": ((4, 6, 384), (4, 6, 384)),
    "vit_small_patch14_dinov2": ((4, 6, 384), (4, 6, 384)),
}


def sides(name):
    return (56, 84) if "patch14" in name else (64, 96)


@pytest.mark.parametrize("name", SHAPES)
def test_every_family_has_a_map_and_a_finer_one(name):
    model = nnx.eval_shape(lambda: build(name, Spec(num_classes=2), rngs=nnx.Rngs(0)))
    images = jax.ShapeDtypeStruct((3, *sides(name), 3), jnp.float32)
    maps = nnx.eval_shape(lambda model, images: model.feature_maps(images), model, images)
    assert (maps.last.shape[1:], maps.earlier.shape[1:]) == SHAPES[name]


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(1), (2, 32, 48, 3), minval=-1)


def test_the_mean_of_the_map_is_what_a_convolutional_network_pools(images):
    model = build("small_resnet", Spec(num_classes=3, embedding_from="features"), rngs=nnx.Rngs(0))
    maps = model.feature_maps(images)
    pooled = model.front(images, len(model.blocks) + 1, train=False)
    np.testing.assert_allclose(maps.last.mean((1, 2)), pooled, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(maps.earlier, model.front(images, 3, train=False))


def test_a_vgg_stage_is_taken_before_its_last_convolution():
    spec = Spec(num_classes=2)
    conv_norm = functools.partial(ConvNorm, spec=spec, convention=TORCHVISION, rngs=nnx.Rngs(0))
    stage = vgg.Stage(3, 4, 2, conv_norm)
    x = jax.random.normal(jax.random.key(0), (1, 6, 4, 3))
    before = stage.convolved(x, 1, train=False)
    after = max_pool(stage.convolutions[1](before, train=False), 2, 2)
    np.testing.assert_array_equal(stage(x, train=False), after)


def test_patch_tokens_lie_as_their_patches_do():
    """A change of one patch changes its token most, and the class token is not among them."""
    model = build("vit_small_patch16", Spec(num_classes=3), rngs=nnx.Rngs(0))
    images = jnp.zeros((1, 48, 64, 3))
    changed = images.at[0, 32:48, 16:32].set(0.9)
    maps = nnx.jit(lambda model, images: model.feature_maps(images))
    before, after = maps(model, images), maps(model, changed)
    for a, b in zip(before, after):
        change = np.abs(np.asarray(a - b)).sum(axis=3)[0]
        assert np.unravel_index(change.argmax(), change.shape) == (2, 1)


def test_a_network_without_a_map_is_refused():
    class Flat(type(build("small_resnet", Spec(num_classes=2), rngs=nnx.Rngs(0)))):
        def enter(self, images, *, train):
            return images.reshape(images.shape[0], -1)

    model = Flat(Spec(num_classes=2), rngs=nnx.Rngs(0))
    model.blocks = nnx.List([])
    with pytest.raises(UserError, match=r"Flat: what is pooled is \(2, 27\), not a map; define Flat.map_of"):
        model.feature_maps(jnp.zeros((2, 3, 3, 3)))
