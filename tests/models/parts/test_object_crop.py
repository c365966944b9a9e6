"""The image and its object: the box of the last map, and the mean of both by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_spatial_transformer import small  # noqa: F401 (a fixture)

from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.models import Spec, build
from cdml_jax.models.parts.crops import cut_out
from cdml_jax.models.parts.object_crop import boxes_around
from cdml_jax.retrieval.boxes import bounding_boxes
from cdml_jax.retrieval.descriptors import selected_positions
from cdml_jax.training.state import split_model


def test_boxes_are_those_of_localization_in_pixels():
    rng = np.random.default_rng(0)
    masks = rng.random((30, 5, 7)) < rng.uniform(0, 0.3, 30)[:, None, None]
    masks[0] = False
    left, top, right, bottom = np.moveaxis(bounding_boxes(masks)[0], 1, 0)
    expected = np.stack([100 * top, 140 * left, 100 * bottom, 140 * right], axis=1)
    np.testing.assert_allclose(boxes_around(jnp.asarray(masks), (100, 140)), expected, rtol=1e-6)


def test_logits_are_the_means_of_the_image_and_of_its_object():
    spec = Spec(num_classes=5, embedding_size=4)
    plain, network = (build("small_resnet", spec, rngs=nnx.Rngs(3), part=p) for p in ("", "object_crop"))
    image = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32) / 4
    image[:, 8:30, 30:60] += 2

    @jax.jit
    def both(images):
        outputs, said = network.observe_images(images, train=False)
        boxes = boxes_around(selected_positions(plain.map_of(plain.seen(images, train=False))), (64, 64))
        crops = cut_out(images, boxes[:, None], (64, 64))[:, 0]
        return outputs, said["boxes"], boxes, plain(images, train=False), plain(crops, train=False)

    outputs, ours, boxes, whole, cropped = both(jnp.asarray(image))
    np.testing.assert_array_equal(ours, boxes)
    sides = np.asarray(boxes[:, 2:] - boxes[:, :2])
    assert sides.min() > 0
    assert sides.prod(axis=1).max() < 64 * 64
    np.testing.assert_allclose(outputs.logits, (whole.logits + cropped.logits) / 2, rtol=1e-4, atol=1e-6)
    assert not np.allclose(whole.logits, cropped.logits, rtol=1e-3)


@pytest.mark.parametrize("part", ["object_crop", "nts_net", "spatial_transformer"])
def test_batch_norm_sees_the_image_and_then_all_crops_of_all_devices(part, small):  # noqa: F811
    network = small(2, part)
    graph, *state = split_model(network)
    images = np.random.default_rng(3).normal(size=(8, 16, 16, 3)).astype(np.float32)

    @jax.jit
    def forward(state, images):
        network = nnx.merge(graph, *state)
        outputs, said = network.observe_images(images, train=True)
        return outputs, said, nnx.as_pure(nnx.state(network, nnx.BatchStat))

    found = []
    for number in (1, 4):
        mesh = mesh_lib.make_mesh(8, devices=jax.devices()[:number])
        placed = mesh_lib.put_batch(mesh, {"image": images})["image"]
        found.append(forward(mesh_lib.put_replicated(mesh, state), placed))
    for one, many in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-6)
    if part == "object_crop":
        _, said, statistics = found[0]
        crops = cut_out(jnp.asarray(images), jnp.asarray(said["boxes"])[:, None], (16, 16))[:, 0]
        image_mean, crop_mean = (network.stem.conv(x).mean((0, 1, 2)) for x in (images, crops))
        expected = 0.9 * 0.1 * image_mean + 0.1 * crop_mean
        np.testing.assert_allclose(statistics["stem"]["norm"]["mean"], expected, rtol=1e-4, atol=1e-6)
