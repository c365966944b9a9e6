"""What is done to the images of a batch before the network sees them."""

import jax
import numpy as np
import pytest
from messages import like

from cdml_jax.errors import UserError
from cdml_jax.methods.views import VIEWS, jigsaw


@pytest.mark.parametrize("side", [1, 2, 4])
def test_blocks_change_places_the_same_for_the_whole_batch(side):
    height, width = 8, 12
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    mixed = np.asarray(jigsaw(images, jax.random.key(1), side=side))

    def blocks(image):
        rows = np.split(image, side)
        return [block for row in rows for block in np.split(row, side, axis=1)]

    places = []
    for image, other in zip(images, mixed):
        known = {block.tobytes(): place for place, block in enumerate(blocks(image))}
        places.append([known[block.tobytes()] for block in blocks(other)])  # whole, and turned in no way
    assert sorted(places[0]) == list(range(side * side))
    assert places[0] == places[1]
    assert (places[0] == sorted(places[0])) == (side == 1)


def test_each_key_has_its_own_places():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    draws = {np.asarray(VIEWS["jigsaw4"](image, jax.random.key(seed))).tobytes() for seed in range(20)}
    assert len(draws) == 20


def test_images_that_cannot_be_cut_evenly_are_refused():
    with pytest.raises(UserError, match=like("image.image_size: images of 12 x 16 … a multiple of 8")):
        VIEWS["jigsaw8"](np.zeros((1, 12, 16, 3), np.uint8), jax.random.key(0))
