"""What the drawn birds look like: families with a shape and a palette, species that differ in small marks."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

RGB = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Proportions of a family; lengths in half body lengths, angles in degrees, forward and up positive."""

    body_height: float
    head: float
    neck: float
    bill_length: float
    bill_depth: float
    bill_curve: float
    tail_length: float
    tail_width: float
    tail_fork: float
    tail_angle: float
    wing_length: float
    leg_length: float
    crest: float
    pitch: float


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours of a family's parts, each red, green, blue in 0 to 255."""

    back: RGB
    belly: RGB
    wing: RGB
    flight: RGB
    head: RGB
    tail: RGB
    bill: RGB
    legs: RGB


@dataclasses.dataclass(frozen=True)
class Mark:
    """One mark of the plumage: where (`slot`, a key of `SLOTS`), colour, and size relative to the usual."""

    slot: str
    colour: RGB
    size: float


@dataclasses.dataclass(frozen=True)
class Species:
    """Everything that the drawing needs to know about a class, and its names."""

    name: str
    family: int
    family_name: str
    shape: Shape
    palette: Palette
    marks: tuple[Mark, ...]


# slot: the part of the palette it lies on, and the word that names it
SLOTS = {
    "crown": ("head", "crowned"),
    "brow": ("head", "browed"),
    "ring": ("head", "ringed"),
    "cheek": ("head", "cheeked"),
    "throat": ("head", "throated"),
    "band": ("belly", "banded"),
    "streaks": ("belly", "streaked"),
    "bars": ("wing", "barred"),
    "patch": ("flight", "winged"),
    "rump": ("back", "rumped"),
    "tip": ("tail", "tailed"),
    "bill": ("bill", "billed"),
    "legs": ("legs", "legged"),
}

COLOURS: dict[str, RGB] = {
    "white": (240, 238, 230),
    "black": (28, 26, 28),
    "yellow": (236, 205, 48),
    "orange": (232, 130, 36),
    "red": (200, 40, 36),
    "rufous": (150, 76, 40),
    "blue": (56, 98, 190),
    "green": (70, 140, 70),
    "pink": (226, 140, 150),
    "grey": (130, 132, 136),
}

# body_height, head, neck, bill length/depth/curve, tail length/width/fork/angle, wing, legs, crest, pitch
SHAPES = {
    "finch": Shape(0.62, 0.48, 0.00, 0.30, 0.26, 0.02, 0.75, 0.22, 0.15, 0, 1.00, 0.30, 0.0, 22),
    "warbler": Shape(0.52, 0.42, 0.00, 0.30, 0.11, 0.00, 0.70, 0.18, 0.05, 0, 0.95, 0.32, 0.0, 18),
    "thrush": Shape(0.58, 0.44, 0.02, 0.36, 0.14, 0.02, 0.85, 0.22, 0.00, 0, 1.05, 0.42, 0.0, 26),
    "wren": Shape(0.68, 0.46, 0.00, 0.36, 0.09, 0.06, 0.50, 0.20, 0.00, 62, 0.85, 0.34, 0.0, 10),
    "swallow": Shape(0.44, 0.40, 0.00, 0.16, 0.12, 0.00, 1.15, 0.20, 0.85, -4, 1.45, 0.14, 0.0, 24),
    "kingfisher": Shape(0.58, 0.56, 0.00, 0.85, 0.20, 0.00, 0.40, 0.20, 0.00, 0, 0.95, 0.16, 0.12, 32),
    "sandpiper": Shape(0.52, 0.36, 0.16, 0.78, 0.09, 0.04, 0.34, 0.16, 0.00, 0, 1.05, 0.75, 0.0, 10),
    "heron": Shape(0.46, 0.32, 0.70, 0.78, 0.14, 0.00, 0.34, 0.18, 0.00, -10, 1.00, 0.95, 0.16, 26),
    "flicker": Shape(0.50, 0.42, 0.04, 0.50, 0.14, 0.00, 0.72, 0.18, 0.20, -6, 1.05, 0.12, 0.22, 54),
    "tern": Shape(0.42, 0.40, 0.00, 0.48, 0.13, 0.02, 1.00, 0.16, 0.65, 0, 1.50, 0.18, 0.0, 6),
    "jay": Shape(0.56, 0.46, 0.02, 0.38, 0.18, 0.02, 1.10, 0.26, 0.00, 0, 1.00, 0.36, 0.5, 28),
    "dove": Shape(0.62, 0.34, 0.14, 0.22, 0.10, 0.03, 0.90, 0.26, 0.00, 0, 1.10, 0.20, 0.0, 14),
    "duck": Shape(0.56, 0.44, 0.26, 0.46, 0.20, -0.04, 0.32, 0.26, 0.00, 16, 0.95, 0.14, 0.0, 2),
    "parakeet": Shape(0.54, 0.50, 0.00, 0.24, 0.34, 0.16, 1.25, 0.18, -0.6, 0, 1.05, 0.14, 0.0, 44),
}

HABITATS = (
    "marsh", "stone", "river", "dune", "cedar", "hill", "island", "meadow", "willow", "desert",
    "coast", "alder", "canyon", "lake", "thorn", "mountain", "garden", "reed", "pine", "valley",
)  # fmt: skip


def _distance(a: RGB, b: RGB) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def _hsv(hue: float, saturation: float, value: float) -> RGB:
    """Colour of hue, saturation and value, all in [0, 1]."""
    channels = [(hue * 6 + k) % 6 for k in (5, 3, 1)]
    red, green, blue = (
        round(255 * value * (1 - saturation * max(0.0, min(c, 4 - c, 1.0)))) for c in channels
    )
    return red, green, blue


def _mix(a: RGB, b: RGB, share: float) -> RGB:
    red, green, blue = (round(x + share * (y - x)) for x, y in zip(a, b))
    return red, green, blue


def _shape(rng: np.random.Generator, base: Shape) -> Shape:
    """A family's own proportions: its archetype's, changed by up to an eighth (angles: 6 degrees)."""
    values = {}
    for field, value in dataclasses.asdict(base).items():
        angle = field in ("pitch", "tail_angle")
        values[field] = value + rng.uniform(-6, 6) if angle else value * rng.uniform(0.875, 1.125)
    return Shape(**values)


def _palette(rng: np.random.Generator, hue: float) -> Palette:
    """Muted plumage around one hue; the belly is lighter than the back, the flight feathers darker."""
    hue = 0.03 + 0.6 * hue  # rufous, brown, olive, green, slate, blue: few birds are purple
    saturation, value = rng.uniform(0.12, 0.5), rng.uniform(0.34, 0.72)
    back = _hsv(hue, saturation, value)
    belly = _hsv(rng.uniform(0.06, 0.16), rng.uniform(0.04, 0.4), rng.uniform(0.72, 0.95))
    wing = _mix(back, (30, 28, 30), rng.uniform(0.15, 0.45))
    head = (
        back
        if rng.random() < 0.5
        else _hsv(rng.uniform(0.02, 0.65), rng.uniform(0.1, 0.45), rng.uniform(0.25, 0.8))
    )
    return Palette(
        back=back,
        belly=belly,
        wing=wing,
        flight=_mix(wing, (24, 22, 24), 0.5),
        head=head,
        tail=_mix(back, (30, 28, 30), rng.uniform(0.1, 0.6)),
        bill=COLOURS["black"] if rng.random() < 0.5 else _hsv(0.1, 0.35, rng.uniform(0.4, 0.6)),
        legs=_hsv(rng.uniform(0.0, 0.1), 0.4, rng.uniform(0.25, 0.6)),
    )


def _mark(rng: np.random.Generator, slot: str, avoid: list[RGB], strength: float) -> tuple[str, Mark]:
    """A mark that stands out from its ground and from the colours in `avoid`, and the word that names it."""
    names = [name for name, c in COLOURS.items() if min(_distance(c, a) for a in avoid) >= 105]
    name = names[rng.integers(len(names))]
    colour = _mix(avoid[0], COLOURS[name], 0.5 + 0.5 * strength)
    return f"{name}-{SLOTS[slot][1]}", Mark(slot, colour, 0.7 + 0.45 * strength)


def _family(
    rng: np.random.Generator, family: int, name: str, shape: Shape, hue: float, size: int
) -> list[Species]:
    """`size` species of one family: marks that all share, and a few slots whose values tell them apart."""
    palette = _palette(rng, hue)
    # a mark on a bill or on legs too short to show it would tell nothing
    hidden = {"bill"} if shape.bill_length < 0.28 else set()
    hidden |= {"legs"} if shape.leg_length < 0.26 else set()
    slots = [str(slot) for slot in rng.permutation(list(SLOTS)) if slot not in hidden]
    in_play, shared = slots[: max(1, (size - 1).bit_length())], slots[-2:]
    common = tuple(_mark(rng, s, [getattr(palette, SLOTS[s][0])], 1.0)[1] for s in shared)
    choices = []
    for place, slot in enumerate(in_play):
        # the first slot is plain to see, the others may be faint: some pairs are closer than others
        ground, strength = getattr(palette, SLOTS[slot][0]), rng.uniform(0.3 if place else 0.4, 1.0)
        second = _mark(rng, slot, [ground], strength)
        # either the mark is there or not, or it has one of two colours: both occur in real families
        first = None if rng.random() < 0.6 else _mark(rng, slot, [ground, second[1].colour], strength)
        choices.append((first, second))
    species = []
    for values in itertools.islice(itertools.product(*choices), size):
        present = [value for value in values if value is not None]
        words = " ".join(word for word, _ in present) or "plain"
        marks = common + tuple(mark for _, mark in present)
        species.append(Species(f"{words} {name}", family, name, shape, palette, marks))
    return species


def make_species(seed: int, family_sizes: tuple[int, ...], first_name: int) -> tuple[Species, ...]:
    """Species of all families, the species of a family side by side; a pure function of its arguments.

    Args:
      seed: of the shapes, palettes and marks.
      family_sizes: number of species in each family, 2 to 8.
      first_name: offset into the list of family names; sets whose ranges do not overlap share no name.

    >>> birds = make_species(7, (2, 3), 0)
    >>> [bird.family for bird in birds]
    [0, 0, 1, 1, 1]
    >>> birds[0].shape == birds[1].shape and birds[0].palette == birds[1].palette
    True
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(family_sizes)]))
    kinds = list(SHAPES)
    hues = (rng.permutation(len(family_sizes)) + rng.random(len(family_sizes))) / len(family_sizes)
    species: list[Species] = []
    for family, size in enumerate(family_sizes):
        number = first_name + family
        # a noun comes back after all others, each time with the next habitat: 14 x 20 names
        kind = kinds[number % len(kinds)]
        habitat = HABITATS[(number // len(kinds) + 3 * (number % len(kinds))) % len(HABITATS)]
        shape = _shape(rng, SHAPES[kind])
        species += _family(rng, family, f"{habitat} {kind}", shape, float(hues[family]), size)
    return tuple(species)
