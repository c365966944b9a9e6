"""The maps that descriptors take: what the network pools, and the last finer one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models import Spec, build, vgg, vit
from cdml_jax.models.layers import ConvNorm, max_pool
from cdml_jax.models.spec import TORCHVISION

SHAPES = {  # of the last map and of the earlier one, for images of 64 x 96; vision transformers below
    "mobilenet_v2": ((2, 3, 1280), (4, 6, 576)),
    "efficientnet_lite0": ((2, 3, 1280), (4, 6, 672)),
    "googlenet": ((2, 3, 1024), (4, 6, 832)),
    "vgg16_bn": ((2, 3, 512), (4, 6, 512)),
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

    @nnx.jit
    def both(model, images):
        fronts = [model.front(images, blocks, train=False) for blocks in (3, len(model.blocks) + 1)]
        return model.feature_maps(images), *fronts

    maps, before_last, pooled = both(model, images)
    np.testing.assert_allclose(maps.last.mean((1, 2)), pooled, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(maps.earlier, before_last, rtol=1e-5, atol=1e-6)


def test_a_vgg_stage_is_taken_before_its_last_convolution():
    spec = Spec(num_classes=2)
    conv_norm = functools.partial(ConvNorm, spec=spec, convention=TORCHVISION, rngs=nnx.Rngs(0))
    stage = vgg.Stage(3, 4, 2, conv_norm)
    x = jax.random.normal(jax.random.key(0), (1, 6, 4, 3))
    before = stage.convolved(x, 1, train=False)
    after = max_pool(stage.convolutions[1](before, train=False), 2, 2)
    np.testing.assert_array_equal(stage(x, train=False), after)


def test_patch_tokens_lie_as_their_patches_do(monkeypatch):
    monkeypatch.setattr(vit, "BLOCKS", 1)
    numbers = {"width": 64, "patch": 4, "grid": 4, "layer_scale": 0.0, "own_style": "tensorflow"}
    model = vit.VisionTransformer(Spec(num_classes=2), rngs=nnx.Rngs(0), **numbers)
    images = jnp.zeros((1, 12, 16, 3)).at[0, 8:12, 4:8].set(0.9)
    change = np.abs(model.enter(images, train=False) - model.enter(0 * images, train=False)).sum(axis=2)[0]
    token = 1 + 2 * 4 + 1  # behind the class token, row 2, column 1
    assert change.argmax() == token
    tokens = jax.random.normal(jax.random.key(2), (1, 13, 64))
    laid = model.as_map(tokens, images)
    assert laid.shape == (1, 3, 4, 64)
    np.testing.assert_array_equal(laid[0, 2, 1], model.norm(tokens)[0, token])


def test_a_network_without_a_map_is_refused():
    class Flat(type(build("small_resnet", Spec(num_classes=2), rngs=nnx.Rngs(0)))):
        def enter(self, images, *, train):
            return images.reshape(images.shape[0], -1)

    model = Flat(Spec(num_classes=2), rngs=nnx.Rngs(0))
    model.blocks = nnx.List([])
    with pytest.raises(UserError, match=r"Flat: what is pooled is \(2, 27\), not a map; define Flat.map_of"):
        model.feature_maps(jnp.zeros((2, 3, 3, 3)))
