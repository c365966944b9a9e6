"""Drawn birds: families and marks, the pictures themselves, and that neither changes by accident."""

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from cdml_jax.data.birds.drawing import draw
from cdml_jax.data.birds.parts import Difficulty
from cdml_jax.data.birds.sets import CONFIGS, VERSION, BirdSet
from cdml_jax.data.birds.species import SLOTS, Mark, make_species
from cdml_jax.data.birds.workers import image

GOLDEN = Path(__file__).parent / f"birds_{VERSION}.png"
GOLDEN_IMAGES = [("demo", "train", 0, 0), ("demo", "test", 17, 3), ("upstream", "validation", 101, 7)]
SPECIES_DIGESTS = {
    "demo": "ad8e44f27fbba103",
    "cub_like": "3c5040ccf006f09f",
    "upstream": "e233d090a7853997",
}


def _digest(config):
    return hashlib.sha256(repr(BirdSet.named(config).species).encode()).hexdigest()[:16]


@pytest.mark.parametrize("config", CONFIGS)
def test_species_are_those_of_this_version(config):
    assert _digest(config) == SPECIES_DIGESTS[config], "the species changed: give the generator a new version"


def test_pictures_are_those_of_this_version():
    golden = cv2.imread(str(GOLDEN), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    drawn = np.concatenate([image(BirdSet.named(c), *rest) for c, *rest in GOLDEN_IMAGES], 1).astype(int)
    # another build of OpenCV may round an edge otherwise
    difference = np.abs(golden - drawn)
    assert difference.mean() < 0.25, "the pictures changed: give the generator a new version"
    assert np.quantile(difference, 0.999) <= 12, "the pictures changed: give the generator a new version"


@pytest.mark.parametrize("config", CONFIGS)
def test_a_family_shares_shape_and_palette_and_differs_in_marks(config):
    birds = BirdSet.named(config)
    by_family = {}
    for species in birds.species:
        by_family.setdefault(species.family, []).append(species)
    assert [len(members) for members in by_family.values()] == list(birds.family_sizes)
    for members in by_family.values():
        assert len({(s.shape, s.palette, s.family_name) for s in members}) == 1
        assert len({s.marks for s in members}) == len(members)
        shared = set.intersection(*(set(s.marks) for s in members))
        assert len(shared) >= 2
        for one in members:
            differing = {mark.slot for other in members for mark in set(one.marks) ^ set(other.marks)}
            assert 1 <= len(differing) <= 3
    assert len({(members[0].shape, members[0].palette) for members in by_family.values()}) == len(by_family)


@pytest.mark.parametrize("config", CONFIGS)
def test_labels_of_a_family_are_contiguous_and_names_differ(config):
    species = BirdSet.named(config).species
    assert np.all(np.diff([s.family for s in species]) >= 0)
    assert len({s.name for s in species}) == len(species)
    assert all(s.name.endswith(s.family_name) for s in species)


def test_no_two_sets_share_a_species_a_look_or_a_name():
    seen = {}
    for config, birds in CONFIGS.items():
        for species in birds.species:
            for key in (species.family_name, species.shape, species.palette, species.name):
                assert seen.setdefault(key, config) == config


def test_pairs_of_a_family_are_unequally_close():
    def contrast(a, b):
        sizes = {m.slot: np.array(m.colour) for m in a.marks}, {m.slot: np.array(m.colour) for m in b.marks}
        ground = {slot: np.array(getattr(a.palette, part)) for slot, (part, _) in SLOTS.items()}
        slots = set(sizes[0]) | set(sizes[1])
        return sum(np.abs(sizes[0].get(s, ground[s]) - sizes[1].get(s, ground[s])).sum() for s in slots)

    species = CONFIGS["demo"].species
    pairs = [contrast(a, b) for a in species for b in species if a.name < b.name and a.family == b.family]
    assert min(pairs) > 0
    assert np.quantile(pairs, 0.9) > 2 * np.quantile(pairs, 0.1)


@pytest.mark.parametrize("slot", SLOTS)
def test_every_mark_shows(slot):
    base = next(s for s in make_species(3, (2,) * 8, 0) if s.shape.leg_length > 0.3)
    plain = dataclasses.replace(base, marks=())
    marked = dataclasses.replace(base, marks=(Mark(slot, (250, 20, 250), 1.0),))
    still = Difficulty(pose=0.0, marks=0.0, light=0.0, noise=0.0, blur=0.0, occlusion=0.0)
    changed = []
    for k in range(4):
        # a mark's size is one draw of the generator: spend it for the bird without marks too
        rng, other = np.random.default_rng(k), np.random.default_rng(k)
        other.uniform(-1, 1)
        one, two = draw(marked, rng, 64, still), draw(plain, other, 64, still)
        changed.append((np.abs(one.astype(int) - two).max(-1) > 40).sum())
    assert 6 <= min(changed) <= max(changed) < 64 * 64 / 8


def test_an_image_is_a_pure_function_of_its_key():
    birds = CONFIGS["demo"]
    first = image(birds, "train", 5, 2)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, image(birds, "train", 5, 2))
    others = [("train", 5, 3), ("train", 6, 2), ("validation", 5, 2), ("test", 5, 2)]
    digests = {image(birds, *key).tobytes() for key in others} | {first.tobytes()}
    assert len(digests) == 5


def test_size_changes_the_resolution_and_not_the_picture():
    species = CONFIGS["cub_like"].species[30]
    still = Difficulty(noise=0.0, blur=0.0)
    large = draw(species, np.random.default_rng(4), 256, still)
    small = draw(species, np.random.default_rng(4), 64, still)
    reduced = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - small).mean() < 4


def test_images_of_a_species_vary_and_the_bird_is_inside():
    birds = CONFIGS["demo"]
    for label in range(0, 48, 5):
        views = np.stack([image(birds, "train", label, k) for k in range(4)]).astype(float)
        spread = [np.abs(views[a] - views[b]).mean() for a in range(4) for b in range(a)]
        assert min(spread) > 8
