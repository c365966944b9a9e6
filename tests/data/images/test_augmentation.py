"""TrivialAugment and random erasing, on pictures whose pixels tell what was done."""

import numpy as np
import pytest

from cdml_jax.data.images import augmentation
from cdml_jax.data.images.transforms import Transform
from cdml_jax.data.images.transforms import augment as view
from cdml_jax.errors import UserError


@pytest.fixture
def image(picture):
    return picture(3, 40, 56)


@pytest.mark.parametrize("name", list(augmentation._OPERATIONS))
def test_every_operation_keeps_size_and_kind_at_its_largest(name, image, monkeypatch):
    monkeypatch.setattr(augmentation, "_OPERATIONS", {name: augmentation._OPERATIONS[name]})
    for seed in range(4):
        result = augmentation.trivial_augment(image, np.random.default_rng(seed))
        assert (result.shape, result.dtype) == (image.shape, np.uint8)


@pytest.mark.parametrize("name", sorted(set(augmentation._OPERATIONS) - {"identity"}))
def test_every_operation_but_the_identity_changes_the_picture(name, image, monkeypatch):
    image = (image // 2 + 30).astype(np.uint8)  # room for contrast and equalisation
    monkeypatch.setattr(augmentation, "_OPERATIONS", {name: augmentation._OPERATIONS[name]})
    results = [augmentation.trivial_augment(image, np.random.default_rng(seed)) for seed in range(6)]
    assert any((result != image).any() for result in results)


def test_operations_are_drawn_alike(monkeypatch, image):
    drawn = dict.fromkeys(augmentation._OPERATIONS, 0)

    def counting(name):
        def operation(picture, _):
            drawn[name] += 1
            return picture

        return (1.0, True, operation)

    monkeypatch.setattr(augmentation, "_OPERATIONS", {name: counting(name) for name in drawn})
    rng = np.random.default_rng(0)
    for _ in range(1400):
        augmentation.trivial_augment(image, rng)
    assert 60 < min(drawn.values()) <= max(drawn.values()) < 145


def test_erasing_changes_one_box_of_the_stated_area(image):
    rng, shares = np.random.default_rng(0), []
    for _ in range(200):
        changed = (augmentation.random_erasing(image, rng, 1.0) != image).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.9  # noise may equal a pixel by chance
        shares.append(box.size / changed.size)
    assert 0.01 < min(shares) < 0.04
    assert 0.28 < max(shares) < 0.36


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_erasing_happens_as_often_as_asked(image, probability, share):
    rng = np.random.default_rng(1)
    erased = [(augmentation.random_erasing(image, rng, probability) != image).any() for _ in range(300)]
    assert np.mean(erased) == pytest.approx(share, abs=0.08)


def test_the_transform_applies_them(image):
    plain = Transform(32, flip=False, crop="none", resize=32)
    erasing = Transform(32, flip=False, crop="none", resize=32, erasing=1.0)
    trivial = Transform(32, flip=False, crop="none", resize=32, trivial_augment=True)
    views = [view(image, np.random.default_rng(0), t) for t in (plain, erasing, trivial)]
    assert (views[0] != views[1]).any()
    assert any((view(image, np.random.default_rng(s), trivial) != views[0]).any() for s in range(5))


def test_a_wrong_probability_is_refused():
    with pytest.raises(UserError, match="erasing"):
        Transform(32, erasing=1.5)
