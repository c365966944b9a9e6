"""Position embeddings on other maps, and sizes that do not divide into patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Spec, build
from cdml_jax.models.vit import fit_positions, resample_positions
from cdml_jax.models.weights.files import WeightFile
from cdml_jax.models.weights.loading import fill_weights
from cdml_jax.system.trees import named_leaves
from cdml_jax.training.state import split_model


@pytest.mark.parametrize("shape", [(9, 9), (5, 12), (14, 3)])
def test_positions_are_resampled_as_pillow_resizes_images(shape):
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(1, 1 + 81, 4)).astype(np.float32)
    actual = resample_positions(jnp.asarray(positions), 9, shape)
    assert np.array_equal(actual[:, 0], positions[:, 0])
    for channel in range(4):
        image = Image.fromarray(positions[0, 1:, channel].reshape(9, 9))
        expected = np.asarray(image.resize(shape[::-1], Image.Resampling.BICUBIC))
        np.testing.assert_allclose(actual[0, 1:, channel], expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(("name", "ours"), [("vit_small_patch16", 14), ("vit_small_patch14_dinov2", 37)])
def test_weights_of_another_square_map_are_resampled(name, ours):
    """As for an image of another size; 577 positions are those of 384 px."""
    theirs = np.random.default_rng(0).normal(size=(1, 1 + 24 * 24, 8)).astype(np.float32)
    for table in NETWORKS[name].tables().values():
        fitted, said = table.fitted["positions"](theirs, (1, 1 + ours * ours, 8))
        np.testing.assert_array_equal(fitted, resample_positions(jnp.asarray(theirs), 24, (ours, ours)))
        assert said == f"position embeddings resampled from 24 x 24 to {ours} x {ours}"


@pytest.mark.parametrize(
    "shape", [(1, 24 * 24, 8), (1, 1 + 24 * 23, 8), (1, 577, 9), (577, 8), (1, 1, 8), (1, 0, 8)]
)
def test_weights_of_no_square_map_are_not(shape):
    assert fit_positions(np.ones(shape, np.float32), (1, 197, 8)) is None


def test_older_weights_with_a_layer_before_the_head_are_taken_without_it():
    """`pre_logits` is left with the classifier; the map is that of 64 px, the names are a wrapped model's."""
    model = nnx.eval_shape(lambda: build("vit_small_patch16", Spec(num_classes=2), rngs=nnx.Rngs(0)))
    parameters, statistics = split_model(model)[1:]
    table = NETWORKS["vit_small_patch16"].tables()["timm"]
    rng, values = np.random.default_rng(0), {}
    for full, leaf in named_leaves(parameters):
        if not full.startswith("heads."):
            shape = leaf.shape[::-1] if leaf.ndim == 2 else leaf.shape
            shape = (shape[3], shape[2], *shape[:2]) if leaf.ndim == 4 else shape
            values[f"model.{table.sources(full)[0]}"] = rng.normal(size=shape).astype(np.float32)
    plain = fill_weights(
        WeightFile(dict(values), {}, "file"), parameters, statistics, network="vit_small_patch16"
    )
    values["model.pos_embed"] = small = rng.normal(size=(1, 17, 384)).astype(np.float32)
    values |= {"model.pre_logits.fc.weight": np.ones((384, 384)), "model.pre_logits.fc.bias": np.ones(384)}
    filled = fill_weights(WeightFile(values, {}, "file"), parameters, statistics, network="vit_small_patch16")
    expected = dict(named_leaves(plain[0])) | {
        "positions": resample_positions(jnp.asarray(small), 4, (14, 14))
    }
    for name, leaf in named_leaves(filled[0]):
        if not name.startswith("heads."):
            np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def test_an_image_that_is_no_whole_number_of_patches_is_refused():
    model = nnx.eval_shape(lambda: build("vit_small_patch14_dinov2", Spec(num_classes=2), rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="multiples of 14 pixels, not 224 x 230"):
        jax.eval_shape(lambda x: model(x, train=False), jnp.zeros((1, 224, 230, 3)))
