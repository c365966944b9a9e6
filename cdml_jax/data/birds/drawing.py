"""Drawing one bird: a species and a random generator in, an image out; any size, the same picture."""

from __future__ import annotations

import cv2
import numpy as np

from cdml_jax.data.birds.parts import USUAL, Difficulty, Layer, pose_bird, turn
from cdml_jax.data.birds.species import RGB, Species

_OVERSAMPLING = 2
_LEAF_OUTLINE = np.array(
    [(x, y * (1 - x * x)) for y in (0.32, -0.32) for x in y / 0.32 * np.linspace(-1, 1, 8)]
)
_LEAF: RGB = (74, 108, 48)
_BARK: RGB = (96, 78, 58)
_HABITAT_COLOURS = np.array(
    [
        [92, 128, 70], [140, 160, 96], [150, 178, 200], [196, 206, 212], [128, 104, 78],
        [170, 150, 112], [84, 110, 112], [110, 126, 140], [206, 184, 140], [64, 84, 56],
    ],
    np.float32,
)  # fmt: skip


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """An unfocused habitat (size, size, 3), float32 in 0 to 255."""
    pick = _HABITAT_COLOURS[rng.integers(len(_HABITAT_COLOURS), size=3)]
    cells = int(rng.integers(3, 8))
    share = rng.random((cells, cells, 3), np.float32)
    coarse = (share / share.sum(-1, keepdims=True)) @ pick
    coarse += 14 * rng.standard_normal((cells, cells, 1), np.float32)
    image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    fine = rng.standard_normal((16, 16, 1), np.float32) * rng.uniform(2, 14)
    return image + cv2.resize(fine, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]


def _plant_colour(rng: np.random.Generator, base: RGB) -> RGB:
    colour = np.array(base) * rng.uniform(0.55, 1.4) + rng.uniform(-14, 14, 3)
    red, green, blue = (int(channel) for channel in np.clip(colour, 0, 255))
    return red, green, blue


def _leaf(rng: np.random.Generator, layer: Layer, longest: float) -> None:
    points = _LEAF_OUTLINE * rng.uniform(0.05, longest) @ turn(rng.uniform(0, 360)).T + rng.random(2)
    layer.add(points, _plant_colour(rng, _LEAF))


def _twig(rng: np.random.Generator, layer: Layer, centre: np.ndarray, angle: float, thick: float) -> None:
    bend, end = rng.uniform(-0.06, 0.06), 0.7 * thick
    outline = [[-1, -thick], [0, bend - thick], [1, -end], [1, end], [0, bend + thick], [-1, thick]]
    layer.add(np.array(outline) @ turn(angle).T + centre, _plant_colour(rng, _BARK))


def _perch(rng: np.random.Generator, feet: float) -> Layer:
    """What is behind the bird: the branch it stands on, at height `feet`, and leaves; image = unit square."""
    layer = Layer()
    centre = np.array([0.5 + rng.uniform(-0.1, 0.1), feet + 0.02])
    _twig(rng, layer, centre, rng.uniform(-14, 14), rng.uniform(0.015, 0.04))
    for _ in range(rng.poisson(2.0)):
        _leaf(rng, layer, 0.13)
    return layer


def _occlusion(rng: np.random.Generator, expected: float) -> Layer:
    """What is in front of the bird: `expected` twigs and leaves on average; image = unit square."""
    layer = Layer()
    for _ in range(rng.poisson(expected)):
        if rng.random() < 0.5:
            _twig(rng, layer, rng.random(2), rng.uniform(0, 180), rng.uniform(0.006, 0.016))
        else:
            _leaf(rng, layer, 0.12)
    return layer


def _over(image: np.ndarray, layer: Layer, matrix: np.ndarray, offset: np.ndarray, shade) -> np.ndarray:
    """`layer` painted over `image`; `matrix` and `offset` lead to pixels, `shade` multiplies its colours."""
    if not layer.points:
        return image
    size = image.shape[0]
    # cv2's smooth edges are a pixel wide: painting larger and averaging keeps marks of a pixel or two true
    canvas = np.zeros((_OVERSAMPLING * size, _OVERSAMPLING * size, 4), np.uint8)
    layer.paint(canvas, _OVERSAMPLING * matrix, _OVERSAMPLING * offset)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    return image * (1 - small[..., 3:] / 255) + small[..., :3] * shade


def _light(rng: np.random.Generator, size: int, strength: float) -> np.ndarray:
    """A ramp (size, size, 1) from light to shadow: the sun is above, left or right."""
    slope = turn(rng.uniform(-60, 60)) @ np.array([0.0, -1.0]) * strength * rng.uniform(0.1, 0.55)
    ramp = np.arange(size) / size - 0.5
    return (1 + slope[0] * ramp[None, :] + slope[1] * ramp[:, None]).astype(np.float32)[..., None]


def _photograph(image: np.ndarray, rng: np.random.Generator, difficulty: Difficulty) -> np.ndarray:
    """What the camera does: exposure, white balance, contrast, focus, grain."""
    gain = 1 + difficulty.light * rng.uniform(-0.25, 0.2)
    tint = 1 + difficulty.light * rng.uniform(-0.09, 0.09, 3)
    contrast = 1 + difficulty.light * rng.uniform(-0.25, 0.1)
    image = ((image - 118) * contrast + 118) * (gain * tint).astype(np.float32)
    blur = difficulty.blur * rng.random()
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur * image.shape[0] / 64)
    grain = difficulty.noise * rng.uniform(0.3, 1.0)
    image = image + grain * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def draw(species: Species, rng: np.random.Generator, size: int, difficulty: Difficulty = USUAL) -> np.ndarray:
    """A photograph of a bird of `species`, as `rng` has it: pose, place, light, background, occlusion, noise.

    Args:
      species: what to draw.
      rng: generator that nothing else draws from; its state decides the picture.
      size: height and width in pixels.
      difficulty: how much varies inside the species.

    Returns:
      (size, size, 3) uint8, red, green, blue.

    >>> from cdml_jax.data.birds.species import make_species
    >>> draw(make_species(1, (2,), 0)[0], np.random.default_rng(0), 64).shape
    (64, 64, 3)
    """
    bird = pose_bird(species, rng, difficulty)
    # the bird's own frame to pixels: foreshortened, turned, scaled so that it fits, put near the middle
    matrix = turn(difficulty.pose * rng.uniform(-10, 10)) @ np.diag([rng.uniform(0.84, 1.0), -1.0])
    low, high = bird.bounds(matrix)
    scale = size * rng.uniform(0.74, 0.94) / (high - low).max()
    offset = size * (0.5 + rng.uniform(-0.04, 0.04, 2)) - scale * (low + high) / 2
    feet = (offset[1] + scale * high[1]) / size

    unit, corner = size * np.eye(2), np.zeros(2)
    image = _background(rng, size)
    image = _over(image, _perch(rng, feet), unit, corner, rng.uniform(0.8, 1.1))
    image = _over(image, bird, scale * matrix, offset, _light(rng, size, difficulty.light))
    image = _over(image, _occlusion(rng, difficulty.occlusion), unit, corner, rng.uniform(0.8, 1.1))
    return _photograph(image, rng, difficulty)
