"""Position embeddings on other maps, and sizes that do not divide into patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from cdml_jax.errors import UserError
from cdml_jax.models import Spec, build
from cdml_jax.models.vit import resample_positions


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


def test_an_image_that_is_no_whole_number_of_patches_is_refused():
    model = nnx.eval_shape(lambda: build("vit_small_patch14_dinov2", Spec(num_classes=2), rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="multiples of 14 pixels, not 224 x 230"):
        jax.eval_shape(lambda x: model(x, train=False), jnp.zeros((1, 224, 230, 3)))
