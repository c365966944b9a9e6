"""Settings that cannot work are refused by key, value and remedy: alone when made, together by `check`."""

import dataclasses

import pytest

from cdml_jax.configuration.checks import check
from cdml_jax.configuration.settings import Settings, changed, defaults
from cdml_jax.errors import UserError


def test_the_defaults_pass():
    check(defaults())


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"model.embedding_from": "pool"}, ("'pool' is unknown", "projection", "features")),
        ({"model.dtype": "float16"}, ("'float16' is unknown", "float32, bfloat16", "float64")),
        ({"model.style": "caffe"}, ("'caffe' is unknown", "torchvision", "tensorflow")),
        ({"model.embedding_size": 0}, ("0 must be at least 1",)),
        ({"optimizer.name": "lion"}, ("'lion' is unknown", "sgd, adamw")),
        ({"objective.in_batch": "hard"}, ("'hard' is unknown", "confusion, uniform")),
        ({"objective.margin": -0.1}, ("-0.1 must be at least 0",)),
        ({"objective.label_smoothing": 1.5}, ("1.5 must be from 0 to 1",)),
        ({"confusion.counts": "firm"}, ("'firm' is unknown", "hard, soft")),
        ({"confusion.source": "tree"}, ("'tree' is unknown", "out_of_fold", "file:PATH")),
        ({"confusion.storage": "sparse"}, ("'sparse' is unknown", "auto, dense, by_class, top")),
        ({"confusion.decay": 1.5}, ("1.5 must be from 0 to 1",)),
        ({"confusion.smoothing": float("nan")}, ("nan must be at least 0",)),
        ({"optimizer.learning_rate": float("inf")}, ("inf must be finite",)),
        ({"sampling.composed": -0.1}, ("-0.1 must be from 0 to 1",)),
        ({"data.num_threads": -1}, ("-1 must be at least 0",)),
        ({"mesh.cpu_devices": -1}, ("-1 must be at least 0",)),
        ({"checkpoint.keep": 0}, ("0 must be at least 1",)),
        ({"profile.steps": -1}, ("-1 must be at least 0",)),
        ({"batch_size": 0}, ("0 must be at least 1",)),
        ({"image.jitter": 2.0}, ("between 0 and 1, not 2.0",)),
        ({"reproduce.methods": ("cdml", "cdml")}, ("must name each method once",)),
        ({"reproduce.methods": ()}, ("must name each method once",)),
        ({"reproduce.methods": ("cdml", 3)}, ("3 is not a name",)),
        ({"reproduce.seeds": 0}, ("0 must be at least 1",)),
    ],
)
def test_a_value_that_cannot_work_is_refused_when_settings_are_made(change, parts):
    (key,) = change
    with pytest.raises(UserError) as refused:
        changed(defaults(), change)
    assert all(part in str(refused.value) for part in (key, *parts))


@pytest.mark.parametrize(
    "value", [(0.5, 0.7, 1.0), (0.5,), (), ("a", "b"), (1.0, 0.3), (0.0, 1.0), (0.5, float("nan")), (True, 1)]
)
@pytest.mark.parametrize("key", ["image.scale", "image.ratio"])
def test_a_range_is_two_numbers(key, value):
    with pytest.raises(UserError, match=rf"^{key} must be two numbers"):
        changed(defaults(), {key: value})


def test_a_range_of_an_area_ends_at_the_whole():
    with pytest.raises(UserError, match=r"^image\.scale must be two numbers .* <= 1, not \(0\.5, 1\.3\)"):
        changed(defaults(), {"image.scale": (0.5, 1.3)})
    assert changed(defaults(), {"image.ratio": (0.5, 1.3)}).image.ratio == (0.5, 1.3)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"model.name": "resnet"}, ("model.name: 'resnet' is unknown", "choose one of")),
        ({"model.dtype": "float64"}, ("model.dtype: float64", "JAX_ENABLE_X64=1")),
        ({"image.image_size": 7}, ("image.image_size: 7", "at least 8")),
        ({"epochs": 4, "warmup_epochs": 9}, ("warmup_epochs: 9", "epochs, 4", "--config.warmup_epochs=0")),
        ({"confusion.source": "holdout"}, ("confusion.source: holdout", "data.holdout_fraction")),
        ({"model.frozen": "backbone", "test_time_flip": True}, ("test_time_flip", "model.frozen=''")),
        ({"seed": 2**32 - 2}, ("seed: 4294967294", "below 2^32")),
    ],
)
def test_values_that_do_not_go_together_are_refused(change, parts):
    with pytest.raises(UserError) as refused:
        check(changed(defaults(), change))
    assert all(part in str(refused.value) for part in parts)


def test_settings_cannot_be_changed_by_assignment():
    settings = defaults()
    for part in (settings, *(getattr(settings, f.name) for f in dataclasses.fields(Settings))):
        if dataclasses.is_dataclass(part):
            name = dataclasses.fields(part)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, name, getattr(part, name))
