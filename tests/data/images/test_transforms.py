import numpy as np
import pytest

from cdml_jax.data.images import transforms
from cdml_jax.data.images.transforms import Transform
from cdml_jax.errors import UserError


def _rng(seed=0):
    return np.random.default_rng(seed)


def _coordinates(height, width):
    """Pixel (y, x) has red y and green x, so that a crop tells where it came from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.zeros_like(x)], -1).astype(np.uint8)


@pytest.mark.parametrize("crop", transforms.CROPS)
@pytest.mark.parametrize("shape", [(50, 80), (80, 50), (1, 90), (7, 1), (1, 1)])
def test_views_have_the_asked_size_whatever_the_image(crop, shape, picture):
    image, transform = picture(0, *shape), Transform(24, crop=crop, jitter=0.2)
    for view in (transforms.augment(image, _rng(), transform), transforms.evaluation_view(image, transform)):
        assert (view.shape, view.dtype) == ((24, 24, 3), np.uint8)


def test_the_same_generator_gives_the_same_view_and_another_one_another(picture):
    image, transform = picture(0, 50, 80), Transform(24, jitter=0.3)
    first, again, other = (transforms.augment(image, _rng(s), transform) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_image_itself_is_left_as_it_was(picture):
    image = picture(0, 24, 24)
    before = image.copy()
    for seed in range(8):
        transforms.augment(image, _rng(seed), Transform(24, crop="none", resize=24, jitter=0.5))
    np.testing.assert_array_equal(image, before)


def test_random_resized_boxes_keep_to_their_area_and_aspect():
    image = _coordinates(100, 140)
    rng, areas, aspects = _rng(), [], []
    for _ in range(300):
        view = transforms.random_resized_crop(image, rng, 100, scale=(0.2, 0.5), ratio=(0.5, 1.5)).astype(int)
        height, width = np.ptp(view[:, :, 0]) + 1, np.ptp(view[:, :, 1]) + 1
        areas.append(height * width / image[:, :, 0].size)
        aspects.append(width / height)
    assert 0.19 < min(areas) < 0.23
    assert 0.47 < max(areas) < 0.51
    assert 0.47 < min(aspects) < 0.56
    assert 1.35 < max(aspects) < 1.55


def test_a_long_image_falls_back_to_the_largest_centred_box():
    view = transforms.random_resized_crop(
        _coordinates(10, 200), _rng(), 10, scale=(0.9, 1.0), ratio=(0.5, 2.0)
    )
    assert view[0, 0, 1] in (90, 91)
    assert view[0, -1, 1] in (108, 109)


def test_random_crops_reach_every_edge_and_do_not_scale_more_than_asked():
    image, rng = _coordinates(32, 48), _rng()
    corners = {tuple(transforms.random_crop(image, rng, 24, short_side=32)[0, 0, :2]) for _ in range(2000)}
    assert {y for y, _ in corners} == set(range(9))
    assert {x for _, x in corners} == set(range(25))


def test_the_centre_crop_is_the_middle_of_the_scaled_image():
    view = transforms.centre_crop(_coordinates(32, 48), 24, short_side=32)
    assert (view[0, 0, :2].tolist(), view[-1, -1, :2].tolist()) == ([4, 12], [27, 35])


def test_an_image_of_the_models_size_is_evaluated_as_it_is(picture):
    image = picture(3, 24, 24)
    np.testing.assert_array_equal(transforms.evaluation_view(image, Transform(24, resize=24)), image)


def test_half_of_the_images_are_mirrored(picture):
    image, rng = picture(0, 6, 9), _rng()
    views = [transforms.random_flip(image, rng) for _ in range(400)]
    mirrored = sum(np.array_equal(view, image[:, ::-1]) for view in views)
    assert 160 < mirrored < 240
    assert mirrored + sum(np.array_equal(view, image) for view in views) == 400


def test_colour_jitter_is_the_three_steps_one_after_another(picture):
    image = picture(0, 20, 30) // 2 + 40
    b, c, s = 1 + 0.3 * (2 * _rng(7).random(3) - 1)
    grey = np.array([0.299, 0.587, 0.114])
    x = b * image.astype(float)
    x = c * x + (1 - c) * (x @ grey).mean()
    x = s * x + (1 - s) * (x @ grey)[..., None]
    jittered = transforms.colour_jitter(image, _rng(7), 0.3)
    assert np.abs(jittered - np.clip(x, 0, 255)).max() < 0.75  # OpenCV rounds its coefficients to 10 bits


def test_resize_short_side_keeps_the_aspect_and_never_enlarges(picture):
    assert transforms.resize_short_side(picture(0, 90, 120), 30).shape == (30, 40, 3)
    assert transforms.resize_short_side(picture(0, 20, 120), 30).shape == (20, 120, 3)


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200
    view = transforms.evaluation_view(stripes, Transform(16, resize=16))
    assert (view == 50).all()


def _area_means(image, size):
    """Each output pixel as the mean of the area that it covers, in float64."""
    weights = []
    for length in image.shape[:2]:
        edges = np.arange(size + 1) * length / size
        covered = np.minimum(edges[1:, None], np.arange(length) + 1) - np.maximum(
            edges[:-1, None], np.arange(length)
        )
        weights.append(np.maximum(covered, 0) * size / length)
    return np.einsum("ih,hwc,jw->ijc", weights[0], image.astype(float), weights[1])


@pytest.mark.parametrize("shape", [(40, 33), (64, 64), (70, 90), (95, 150), (400, 170), (333, 333)])
def test_a_training_crop_that_shrinks_is_about_the_mean_of_what_each_pixel_covers(shape):
    y, x = (32 * axis / length for axis, length in zip(np.mgrid[: shape[0], : shape[1]], shape))
    waves = [np.sin(y / 1.1 + x / 2.1), np.cos(x / 1.3), np.sin(y / 1.7 - x / 3.0)]
    image = np.uint8(np.round(127 + 90 * np.stack(waves, -1)))
    view = transforms.random_resized_crop(image, _rng(), 32, scale=(1, 1), ratio=(shape[1] / shape[0],) * 2)
    assert np.abs(view - _area_means(image, 32)).mean() < 3
    assert np.abs(view.mean((0, 1)) - image.mean((0, 1))).max() < 0.8


@pytest.mark.parametrize("side", [36, 50, 64, 79, 96, 112, 150])
def test_a_training_crop_averages_marks_finer_than_its_pixels(side):
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 200
    view = transforms.random_resized_crop(stripes, _rng(), 32, scale=(1, 1), ratio=(1, 1)).astype(float)
    assert abs(view.mean() - 100) < 3
    assert view.std() < _area_means(stripes, 32).std() + 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image.image_size: 0 must be at least 1"),
        ({"crop": "five"}, "crop must be one of random_resized, random, none, not 'five'"),
        ({"scale": (0.5, 0.2)}, "scale must be two numbers with 0 < low <= high <= 1"),
        ({"ratio": (0.0, 1.0)}, "ratio must be"),
        ({"jitter": 2.0}, "jitter must be between 0 and 1"),
        ({"resize": 20}, r"resize \(20\) must not be below image_size \(24\)"),
    ],
)
def test_a_transform_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Transform(**{"image_size": 24, **options})
