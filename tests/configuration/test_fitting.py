"""Keys that are left to the images and the machine, and what a person should know of the images."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from cdml_jax.configuration import fitting
from cdml_jax.configuration.checks import check, left_open
from cdml_jax.configuration.fitting import as_begun, fitted, note_images
from cdml_jax.configuration.keys import flat
from cdml_jax.configuration.load import load
from cdml_jax.configuration.settings import changed, to_plain
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def networks_once():
    """The shapes of equal networks, which take a second, are made once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        made, make = {}, fitting._network

        def network(settings, num_classes):
            key = (repr(settings.model), num_classes)
            if key not in made:
                made[key] = make(settings, num_classes)
            return made[key]

        patch.setattr(fitting, "_network", network)
        yield


@pytest.fixture(scope="module")
def own():
    return load("own_images").settings


def some(number, kind):
    return [SimpleNamespace(platform=kind)] * number


def images(number, side=200, classes=3, draw=None):
    """So many equal images; memory is taken by one."""
    picture = np.full((side, side + 9, 3), 90, np.uint8) if draw is None else draw
    many = np.broadcast_to(picture, (number, *picture.shape))
    labels = np.arange(number, dtype=np.int32) % classes
    return Dataset("set", Classes(tuple(map(str, range(classes)))), {"train": ArraySource(many, labels)})


def test_all_that_is_left_open_is_chosen_and_said_in_one_line(own, capsys):
    found = fitted(own, images(548), some(2, "cpu"))
    assert left_open(found) == []
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith("Chosen for 548 training images on 2 cpu device(s): image.image_size=144 ")
    differ = {key for key, value in flat(to_plain(found)).items() if flat(to_plain(own))[key] != value}
    assert differ == set(left_open(own))
    for key in differ:
        assert f" {key}=" in said


@pytest.mark.parametrize("number", [2, 9, 33, 100, 548, 4_000, 20_000])
@pytest.mark.parametrize(("devices", "kind"), [(1, "cpu"), (2, "cpu"), (1, "gpu"), (8, "tpu")])
def test_what_is_chosen_can_be_trained(own, number, devices, kind):
    found = fitted(own, images(number, side=8), some(devices, kind))
    check(found)
    assert found.batch_size % devices == 0
    assert found.batch_size <= max(number, devices)
    assert found.warmup_epochs < found.epochs
    assert 1 <= found.evaluate_every <= found.epochs


def test_fewer_images_are_seen_more_often_and_a_larger_set_costs_more(own):
    chosen = [fitted(own, images(n, side=8), some(2, "cpu")).epochs for n in (100, 1_000, 20_000)]
    assert chosen == sorted(chosen, reverse=True)
    assert chosen[0] * 100 < chosen[1] * 1_000 < chosen[2] * 20_000


def test_more_classes_are_seen_more_often(own):
    few, many = (
        fitted(own, images(9_000, side=8, classes=classes), some(2, "gpu")).epochs for classes in (2, 200)
    )
    assert few < many


def test_a_gpu_trains_the_whole_network_on_larger_images(own):
    processor, gpu = (fitted(own, images(100), some(1, kind)) for kind in ("cpu", "gpu"))
    assert (processor.model.frozen, gpu.model.frozen) == ("8", "")
    assert processor.image.image_size < gpu.image.image_size


@pytest.mark.parametrize(("side", "size"), [(28, 64), (48, 96), (71, 144), (150, 144)])
def test_small_images_are_not_enlarged_more_than_twice(own, side, size):
    found = fitted(own, images(20, side=side), some(1, "cpu")).image.image_size
    assert found == size


@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 3},
        {"batch_size": 8, "image.image_size": 96},
        {"model.frozen": ""},
        {"warmup_epochs": 0, "evaluate_every": 7},
    ],
)
def test_what_is_given_stays(own, given):
    found = flat(to_plain(fitted(changed(own, given), images(100), some(1, "cpu"))))
    assert {key: found[key] for key in given} == given


def test_nothing_is_said_where_nothing_is_left_open(own, capsys):
    whole = load("own_images_scratch").settings
    assert fitted(whole, images(100), some(1, "cpu")) is whole
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("other", [{"model.weights": ""}, {"test_time_flip": True}])
def test_no_front_is_frozen_that_cannot_be(own, other):
    assert fitted(changed(own, other), images(100), some(1, "cpu")).model.frozen == ""


def test_what_was_chosen_and_what_is_given_may_not_go_together(own):
    with pytest.raises(UserError, match="warmup_epochs: 500 exceeds epochs"):
        fitted(changed(own, {"warmup_epochs": 500}), images(100), some(1, "cpu"))


def test_a_run_goes_on_with_what_was_chosen_when_it_began(own):
    began = to_plain(fitted(own, images(100), some(1, "gpu")))
    again = as_begun(changed(own, {"epochs": 77}), began)
    assert left_open(again) == []
    assert again == changed(own, {key: flat(began)[key] for key in left_open(own)} | {"epochs": 77})
    assert as_begun(own, None) is own


@pytest.mark.parametrize("key", ["epochs", "batch_size", "evaluate_every", "image.image_size"])
def test_no_other_number_below_one_is_taken(own, key):
    for value in (0, -2):
        with pytest.raises(UserError, match=f"{key}: {value} must be at least 1, or -1 to leave it"):
            changed(own, {key: value})


def drawing(ink, paper):
    picture = np.full((60, 60, 3), paper, np.uint8)
    picture[20:30, 10:50] = ink
    return picture


@pytest.mark.parametrize(
    ("picture", "flip", "warned"),
    [
        (drawing(0, 255), True, True),
        (drawing(255, 0), True, True),
        (drawing(0, 255), False, False),
        (drawing((250, 10, 10), 255), True, False),
        (drawing(60, 130), True, False),
    ],
)
def test_mirror_images_of_drawings_are_advised_against(own, capsys, picture, flip, warned):
    note_images(changed(own, {"image.flip": flip}), images(40, draw=picture))
    assert ("set --config.image.flip=False" in capsys.readouterr().err) is warned


def test_uneven_classes_are_named(own, capsys):
    labels = np.array([0] * 40 + [1] * 4 + [2] * 12, np.int32)
    pictures = (
        np.zeros((labels.size, 8, 8, 3), np.uint8)
        + np.arange(labels.size, dtype=np.uint8)[:, None, None, None]
    )
    uneven = Dataset("set", Classes(("a", "b\x1b", "c")), {"train": ArraySource(pictures, labels)})
    note_images(own, uneven)
    said = capsys.readouterr().out
    assert said.splitlines()[1].startswith(r"Classes are uneven: 40 training images of a, 4 of b\x1b.")
    note_images(own, images(40))
    assert "uneven" not in capsys.readouterr().out


def test_classes_that_are_not_validated_are_named(own, capsys):
    whole = images(40)
    note_images(own, whole)
    assert "There are no validation images: --folds=5" in capsys.readouterr().out
    two = dataclasses.replace(
        whole, splits=whole.splits | {"validation": images(9, classes=2).splits["train"]}
    )
    note_images(own, two)
    assert "Classes without validation images: 1, such as 2; --folds=5" in capsys.readouterr().out
    note_images(own, dataclasses.replace(two, splits=two.splits | {"validation": whole.splits["train"]}))
    assert "validation" not in capsys.readouterr().out


def test_the_size_suits_the_patches_of_a_transformer(own):
    changes = {"model.name": "vit_small_patch14_dinov2", "model.embedding_from": "features"}
    found = fitted(changed(own, changes), images(100), some(1, "cpu"))
    assert (found.image.image_size, found.model.frozen) == (140, "6")
