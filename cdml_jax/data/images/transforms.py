"""Random crops, flips and colour jitter for training, a fixed view for evaluation."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from cdml_jax.data.images.augmentation import random_erasing, trivial_augment
from cdml_jax.errors import UserError
from cdml_jax.system import ranges

CROPS = ("random_resized", "random", "none")


@dataclasses.dataclass(frozen=True)
class Transform:
    """What happens to a decoded image on its way into a batch.

    Attributes:
      image_size: side of the square that the model sees, in pixels; -1 until the images are known.
      crop: "random_resized" (an area and an aspect drawn at random), "random" (a square of the evaluation
        view's size, placed at random) or "none" (the evaluation view).
      scale: smallest and largest share of the image's area in a random resized crop.
      ratio: smallest and largest width / height of a random resized crop.
      flip: mirror left and right with probability 1/2.
      jitter: brightness, contrast and saturation are each scaled by a factor from [1 - jitter, 1 + jitter].
      trivial_augment: one more operation drawn from fourteen (geometry and colour).
      erasing: probability that a random box is replaced by noise.
      resize: the short side, in pixels, to which an image is thought to be scaled before the square of
        `image_size` is cut; 0 means 8/7 of `image_size`.
    """

    image_size: int = 64
    crop: str = "random_resized"
    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    jitter: float = 0.0
    trivial_augment: bool = False
    erasing: float = 0.0
    resize: int = 0

    def __post_init__(self) -> None:
        ranges.at_least_or_open("image.", self, image_size=1)
        if self.crop not in CROPS:
            raise UserError(f"image.crop must be one of {', '.join(CROPS)}, not {self.crop!r}")
        if not (_ordered(self.scale) and self.scale[1] <= 1):
            raise UserError(f"image.scale must be two numbers with 0 < low <= high <= 1, not {self.scale}")
        if not _ordered(self.ratio):
            raise UserError(f"image.ratio must be two numbers with 0 < low <= high, not {self.ratio}")
        if not 0 <= self.jitter <= 1:
            raise UserError(f"image.jitter must be between 0 and 1, not {self.jitter}")
        if not 0 <= self.erasing <= 1:
            raise UserError(f"image.erasing must be between 0 and 1, not {self.erasing}")
        if self.resize and self.resize < self.image_size:
            raise UserError(f"image.resize ({self.resize}) must not be below image_size ({self.image_size})")

    @property
    def short_side(self) -> int:
        """The short side in pixels that `resize` stands for."""
        return self.resize or self.image_size * 8 // 7

    @property
    def kept_side(self) -> int:
        """The short side to which images may be reduced once, before they are kept in memory; 0 for none.

        A crop that zooms in needs all pixels; any other sees the image at `short_side` in any case.
        """
        return 0 if self.crop == "random_resized" else self.short_side


def _ordered(values: tuple) -> bool:
    """Whether these are two finite numbers above 0, the smaller one first."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and len(values) == 2 and 0 < values[0] <= values[1] < math.inf


def augment(image: np.ndarray, rng: np.random.Generator, transform: Transform) -> np.ndarray:
    """The training view of an image; the same for the same image and state of `rng`.

    Args:
      image: uint8 (height, width, 3).
      rng: the image's own generator.
      transform: what to draw.

    Returns:
      uint8 (image_size, image_size, 3).
    """
    size = transform.image_size
    if transform.crop == "random_resized":
        image = random_resized_crop(image, rng, size, scale=transform.scale, ratio=transform.ratio)
    elif transform.crop == "random":
        image = random_crop(image, rng, size, short_side=transform.short_side)
    else:
        image = centre_crop(image, size, short_side=transform.short_side)
    if transform.flip:
        image = random_flip(image, rng)
    if transform.jitter:
        image = colour_jitter(image, rng, transform.jitter)
    if transform.trivial_augment:
        image = trivial_augment(image, rng)
    if transform.erasing:
        image = random_erasing(image, rng, transform.erasing)
    return image


def evaluation_view(image: np.ndarray, transform: Transform) -> np.ndarray:
    """The one view of an image that is evaluated: the centre square of its scaled version.

    Args:
      image: uint8 (height, width, 3).
      transform: gives `image_size` and `short_side`.

    Returns:
      uint8 (image_size, image_size, 3).
    """
    return centre_crop(image, transform.image_size, short_side=transform.short_side)


def whole_view(image: np.ndarray, size: int) -> np.ndarray:
    """All of an image, squeezed to a square; a place of it is the same share of the image.

    Args:
      image: uint8 (height, width, 3).
      size: side of the result in pixels.

    Returns:
      uint8 (size, size, 3).
    """
    return _resize(image, size, size)


def random_resized_crop(
    image: np.ndarray,
    rng: np.random.Generator,
    size: int,
    *,
    scale: tuple[float, float] = (0.35, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """A box whose area is uniform in `scale` and whose aspect is log-uniform in `ratio`, scaled to a square.

    Ten boxes are drawn and the first that fits is taken; if none fits, the largest centred box whose aspect
    is within `ratio`.

    Args:
      image: uint8 (height, width, 3).
      rng: source of randomness.
      size: side of the result in pixels.
      scale: bounds of the box's share of the image's area.
      ratio: bounds of the box's width / height.

    Returns:
      uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    draws = rng.random((10, 4)).tolist()  # one call: a call costs more than the numbers
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for u_area, u_ratio, u_top, u_left in draws:
        area = height * width * (scale[0] + (scale[1] - scale[0]) * u_area)
        aspect = math.exp(low + (high - low) * u_ratio)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(u_top * (height - h + 1)), int(u_left * (width - w + 1))
            return _scaled(image[top : top + h, left : left + w], size)
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    top, left = (height - h) // 2, (width - w) // 2
    return _scaled(image[top : top + h, left : left + w], size)


def random_crop(image: np.ndarray, rng: np.random.Generator, size: int, *, short_side: int) -> np.ndarray:
    """A square of `size` at a random place of the image scaled to `short_side`.

    The square is cut first and scaled after, which is the same but for rounding, and cheaper.

    Args:
      image: uint8 (height, width, 3).
      rng: source of randomness.
      size: side of the result in pixels.
      short_side: the image's short side after scaling, in pixels; at least `size`.

    Returns:
      uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    side = _side(image, size, short_side)
    u_top, u_left = rng.random(2).tolist()
    top, left = int(u_top * (height - side + 1)), int(u_left * (width - side + 1))
    return _scaled(image[top : top + side, left : left + side], size)


def centre_crop(image: np.ndarray, size: int, *, short_side: int) -> np.ndarray:
    """The centre square of `size` of the image scaled to `short_side`.

    Args:
      image: uint8 (height, width, 3).
      size: side of the result in pixels.
      short_side: the image's short side after scaling, in pixels; at least `size`.

    Returns:
      uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    side = _side(image, size, short_side)
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(image[top : top + side, left : left + side], size, size)


def random_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image or, with probability 1/2, its mirror image (left and right exchanged)."""
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def colour_jitter(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Brightness, then contrast, then saturation scaled by factors uniform in [1 - strength, 1 + strength].

    The three are one affine map of the colours, rounded and cut to 0…255 once at the end:
    x ← b x;  x ← c x + (1 − c) m with m the image's mean grey;  x ← s x + (1 − s) grey(x).

    Args:
      image: uint8 (height, width, 3), RGB.
      rng: source of randomness.
      strength: between 0 and 1.

    Returns:
      uint8 of the same shape.
    """
    b, c, s = (1 + strength * (2 * rng.random(3) - 1)).tolist()
    grey = np.array([0.299, 0.587, 0.114])
    mean = b * float(grey @ cv2.mean(image)[:3])
    matrix = np.empty((3, 4))
    matrix[:, :3] = b * c * (s * np.eye(3) + (1 - s) * grey)
    matrix[:, 3] = (1 - c) * mean  # grey already: saturation leaves it
    return cv2.transform(image, matrix)


def resize_short_side(image: np.ndarray, short_side: int) -> np.ndarray:
    """The image with its short side reduced to `short_side` pixels, its aspect kept; never enlarged.

    Args:
      image: uint8 (height, width, 3).
      short_side: pixels.

    Returns:
      uint8 (height', width', 3); the image itself if its short side is no longer than that.
    """
    height, width = image.shape[:2]
    factor = short_side / min(height, width)
    return image if factor >= 1 else _resize(image, round(height * factor), round(width * factor))


def _side(image: np.ndarray, size: int, short_side: int) -> int:
    return max(1, round(min(image.shape[:2]) * size / short_side))


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    # Area averaging keeps fine marks from aliasing when an image shrinks; it does not interpolate.
    shrinks = image.shape[0] > height and image.shape[1] > width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _scaled(image: np.ndarray, size: int) -> np.ndarray:
    """A training crop as a square: within about a grey level of `_resize`, in a third of its time."""
    if min(image.shape[:2]) <= size:
        return _resize(image, size, size)
    # OpenCV averages 2 x 2 pixels fast, any other area slowly: interpolated to twice the size, then averaged.
    while max(image.shape[:2]) > 2.5 * size:  # then no pixel between two samples is passed over
        height, width = (-(-side // 2) if side > 2.5 * size else side for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    twice = cv2.resize(image, (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(twice, (size, size), interpolation=cv2.INTER_AREA)
