"""A bird's body as polygons: parts from back to front, marks where the species has them, in a random pose."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from cdml_jax.data.birds.species import RGB, Shape, Species

_SHIFT = 4  # cv2 takes vertices in sixteenths of a pixel
_CIRCLE = np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 20, endpoint=False)), np.sin(t)], 1)
_STEPS = np.linspace(0, 1, 12)
_DARK: RGB = (22, 20, 22)


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """How much varies inside a species; every field scales one nuisance.

    Args:
      pose: rotation, head angle, foreshortening and tail angle.
      marks: spread of the size of marks between individuals.
      light: gain, contrast, colour of the light, shadow.
      noise: grain of the sensor, in units of 255.
      blur: largest standard deviation of the focus, in 1/64 of the image.
      occlusion: expected number of twigs and leaves in front.
    """

    pose: float = 1.0
    marks: float = 1.3
    light: float = 1.0
    noise: float = 8.0
    blur: float = 0.9
    occlusion: float = 1.3


USUAL = Difficulty()


class Layer:
    """Polygons in the bird's own coordinates (x forward, y up), gathered first and painted in one go."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.colours: list[RGB] = []

    def add(self, points: np.ndarray, colour: RGB) -> None:
        self.points.append(np.asarray(points, np.float64))
        self.colours.append(colour)

    def bounds(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        every = np.concatenate(self.points) @ matrix.T
        return every.min(0), every.max(0)

    def paint(self, canvas: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> None:
        """Fills the polygons on a premultiplied RGBA canvas; `matrix` (2, 2) and `offset` (2,) in pixels."""
        moved = np.concatenate(self.points) @ matrix.T + offset
        fixed = np.round(moved * (1 << _SHIFT)).astype(np.int32)
        start = 0
        for points, colour in zip(self.points, self.colours):
            cv2.fillPoly(canvas, [fixed[start : start + len(points)]], (*colour, 255), cv2.LINE_AA, _SHIFT)
            start += len(points)


def turn(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])


def _strip(x: np.ndarray, bottom: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Polygon between two curves over the same x."""
    points = np.empty((2 * len(x), 2))
    points[: len(x), 0], points[: len(x), 1] = x, bottom
    points[len(x) :, 0], points[len(x) :, 1] = x[::-1], top[::-1]
    return points


def _body_patch(height: float, x0: float, x1: float, low: float, high: float) -> np.ndarray:
    """Part of the body between x0 and x1 in [-1, 1], from `low` to `high` of its height (-1 belly, 1 back).

    The body is an egg, fuller in front and below.
    """
    x = x0 + (x1 - x0) * _STEPS
    half = height * np.sqrt(np.maximum(1 - x * x, 0)) * (1 + 0.18 * x)
    return _strip(x, (low - 0.08) * half, (high - 0.08) * half)


def _wing_patch(length: float, height: float, a0: float, a1: float, low: float, high: float) -> np.ndarray:
    """Part of the folded wing between a0 and a1 (0 shoulder, 1 tip)."""
    a = a0 + (a1 - a0) * _STEPS
    half = 1.05 * height * np.sqrt(a) * (1 - a) ** 0.75
    middle = 0.18 * height - 0.06 * a
    return _strip(0.5 - a * (0.55 + length), middle + low * half, middle + 0.75 * high * half)


def _cap(middle: float, half: float) -> np.ndarray:
    """Cap of the unit circle around the angle `middle`, `half` to either side (degrees), with its chord."""
    t = np.deg2rad(middle + half * (2 * _STEPS - 1))
    return np.stack([np.cos(t), np.sin(t)], 1)


def _tail_patch(shape: Shape, a0: float, a1: float) -> np.ndarray:
    """Part of the tail between a0 and a1 (0 hinge, 1 end), pointing back from the origin."""
    long, near, far = shape.tail_length, *(shape.tail_width * (0.55 + 0.55 * a) for a in (a0, a1))
    notch = -a1 * long * (1 - 0.5 * shape.tail_fork)
    return np.array(
        [[-a0 * long, -near], [-a1 * long, -far], [notch, 0], [-a1 * long, far], [-a0 * long, near]]
    )


class _Bird:
    """An individual in a pose: its marks with their own sizes, and the layer on which its parts gather."""

    def __init__(self, species: Species, rng: np.random.Generator, difficulty: Difficulty):
        shape, pose = species.shape, difficulty.pose
        self.shape, self.palette = shape, species.palette
        self.colours = {m.slot: m.colour for m in species.marks}
        self.sizes = {
            m.slot: m.size * (1 + 0.18 * difficulty.marks * rng.uniform(-1, 1)) for m in species.marks
        }
        self.tilt = turn(shape.pitch + pose * rng.uniform(-9, 9))
        self.tail_turn = turn(-shape.tail_angle + pose * rng.uniform(-14, 14))
        self.head_turn = turn(pose * rng.uniform(-20, 20))
        self.height = shape.body_height * (1 + 0.06 * pose * rng.uniform(-1, 1))
        neck = shape.neck * (1 + 0.3 * pose * rng.uniform(-1, 1))
        self.crest = shape.crest / shape.head * (1 + 0.2 * pose * rng.uniform(-1, 1))
        front = self.tilt @ np.array([0.70, 0.30 * self.height])
        self.head_centre = front + np.array([0.10 + 0.35 * neck, 0.16 + neck + 0.3 * shape.head])
        self.layer = Layer()

    def body(self, points: np.ndarray, colour: RGB) -> None:
        """Adds a polygon in the body's frame: x along the body, from -1 to 1."""
        self.layer.add(points @ self.tilt.T, colour)

    def head(self, points: np.ndarray | list, colour: RGB) -> None:
        """Adds a polygon in the head's frame: the head is the unit circle."""
        self.layer.add(np.asarray(points) @ (self.shape.head * self.head_turn.T) + self.head_centre, colour)


def _legs(bird: _Bird) -> None:
    """Legs that reach the perch under the body, whatever the posture."""
    length = bird.shape.leg_length + 0.06
    side = np.array([0.06 * bird.sizes.get("legs", 1.0), 0.0])
    colour = bird.colours.get("legs", bird.palette.legs)
    for x, back in ((-0.14, -0.10), (0.10, -0.16)):
        top = bird.tilt @ np.array([x, -0.8 * bird.height])
        knee, end = top + np.array([back, -0.55 * length]), top + np.array([0.04, -length])
        leg = np.array([top - side, knee - side, end - side, end + side, knee + side, top + side])
        bird.layer.add(leg, colour)
        bird.layer.add(end + np.array([[-0.1, 0.0], [0.2, 0.0], [0.2, -0.05], [-0.1, -0.05]]), colour)


def _tail(bird: _Bird) -> None:
    hinge = np.array([-0.82, 0.05])
    bird.body(_tail_patch(bird.shape, 0.0, 1.0) @ bird.tail_turn.T + hinge, bird.palette.tail)
    if "tip" in bird.colours:
        end = _tail_patch(bird.shape, 1 - 0.24 * bird.sizes["tip"], 1.0)
        bird.body(end @ bird.tail_turn.T + hinge, bird.colours["tip"])


def _trunk(bird: _Bird) -> None:
    """Neck, back, belly, breast band and streaks."""
    height, colours, sizes = bird.height, bird.colours, bird.sizes
    breast = bird.tilt @ np.array([0.45, 0.0])
    along = bird.head_centre - breast
    across = 0.8 * bird.shape.head * np.array([-along[1], along[0]]) / np.linalg.norm(along)
    ends = [
        breast + 1.15 * across,
        breast - 1.15 * across,
        bird.head_centre - across,
        bird.head_centre + across,
    ]
    bird.layer.add(np.array(ends), bird.palette.head)
    bird.body(_body_patch(height, -1, 1, -1, 1), bird.palette.back)
    bird.body(_body_patch(height, -0.85, 0.97, -1, -0.05), bird.palette.belly)
    if "band" in colours:
        half = 0.13 * sizes["band"]
        bird.body(_body_patch(height, 0.66 - half, 0.66 + half, -1, 0.35), colours["band"])
    if "streaks" in colours:
        for low in (-0.85, -0.5):
            for x in np.linspace(-0.45, 0.5, 5) + 0.1 * low:
                streak = _body_patch(height, x, x + 0.09, low, low + 0.26 * sizes["streaks"])
                bird.body(streak, colours["streaks"])


def _wing(bird: _Bird) -> None:
    def patch(a0: float, a1: float, low: float = -1.0, high: float = 1.0) -> np.ndarray:
        return _wing_patch(bird.shape.wing_length, bird.height, a0, a1, low, high)

    bird.body(patch(0, 1), bird.palette.wing)
    bird.body(patch(0.55, 1), bird.palette.flight)
    if "patch" in bird.colours:
        half = 0.13 * bird.sizes["patch"]
        bird.body(patch(0.66 - half, 0.66 + half, -1, 0.6), bird.colours["patch"])
    if "bars" in bird.colours:
        half = 0.045 * bird.sizes["bars"]
        for a in (0.26, 0.44):
            bird.body(patch(a - half, a + half, -0.95, 0.8), bird.colours["bars"])
    if "rump" in bird.colours:
        # above the folded wing, whose tips would hide it
        rump = _body_patch(bird.height, -0.54 - 0.36 * bird.sizes["rump"], -0.54, 0.3, 1)
        bird.body(rump, bird.colours["rump"])


def _bill(bird: _Bird) -> None:
    """Upper and lower edge meet at a tip that `bill_curve` lowers."""
    scale = 0.6 + 0.4 * bird.sizes.get("bill", 1.0)
    long, deep = (scale * v / bird.shape.head for v in (bird.shape.bill_length, bird.shape.bill_depth))
    curve, base = bird.shape.bill_curve / bird.shape.head, 0.85
    upper = [[base, 0.6 * deep], [base + 0.55 * long, 0.35 * deep - 0.15 * curve]]
    lower = [[base + 0.55 * long, -0.35 * deep - 0.2 * curve], [base, -0.5 * deep]]
    bird.head([*upper, [base + long, -curve], *lower], bird.colours.get("bill", bird.palette.bill))


def _head(bird: _Bird) -> None:
    """Crest, bill, head, its marks, eye."""
    colours, sizes = bird.colours, bird.sizes
    if bird.crest:
        tip = [-0.75 - bird.crest, 0.75 + 0.75 * bird.crest]
        bird.head([[0.25, 0.95], tip, [-0.9, 0.3]], colours.get("crown", bird.palette.head))
    _bill(bird)
    bird.head(_CIRCLE, bird.palette.head)
    if "throat" in colours:
        bird.head(_cap(-62, 42 * sizes["throat"]), colours["throat"])
    if "cheek" in colours:
        bird.head(_CIRCLE * [0.36, 0.28] * sizes["cheek"] + [-0.22, -0.22], colours["cheek"])
    if "crown" in colours:
        bird.head(_cap(102, 58 * sizes["crown"]), colours["crown"])
    if "brow" in colours:
        lower = np.array([[0.8, 0.34], [0.2, 0.42], [-0.72, 0.26]])
        upper = lower[::-1] + np.array([0.0, 0.17 * sizes["brow"]])
        bird.head(np.concatenate([lower, upper]), colours["brow"])
    eye = np.array([0.36, 0.14])
    if "ring" in colours:
        bird.head(_CIRCLE * (0.24 + 0.17 * sizes["ring"]) + eye, colours["ring"])
    bird.head(_CIRCLE * 0.19 + eye, _DARK)
    bird.head(_CIRCLE * 0.06 + eye + [0.06, 0.07], (235, 235, 235))


def pose_bird(species: Species, rng: np.random.Generator, difficulty: Difficulty) -> Layer:
    """An individual of `species` in a random pose, as polygons from back to front."""
    bird = _Bird(species, rng, difficulty)
    for part in (_legs, _tail, _trunk, _wing, _head):
        part(bird)
    return bird.layer
