"""Checks across values of the settings, before anything slow starts; a single value is judged by its part."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from cdml_jax.configuration import keys
from cdml_jax.configuration.settings import Settings
from cdml_jax.configuration.trackers import WRITERS
from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS
from cdml_jax.system import ranges

_LEAST_SIDE = 8  # pixels that every network takes
_OPEN: dict[str, Any] = {
    "image.image_size": ranges.OPEN,
    "model.frozen": "auto",
    "epochs": ranges.OPEN,
    "warmup_epochs": ranges.OPEN,
    "batch_size": ranges.OPEN,
    "evaluate_every": ranges.OPEN,
}


def left_open(settings: Settings) -> list[str]:
    """Keys whose values the settings leave to the number of images and the machine.

    >>> from cdml_jax.configuration.settings import changed, defaults
    >>> left_open(changed(defaults(), {"epochs": -1, "model.frozen": "auto"}))
    ['model.frozen', 'epochs']
    """
    values = keys.flat(dataclasses.asdict(settings))
    return [key for key, value in _OPEN.items() if values[key] == value]


def check(settings: Settings) -> None:
    """Refuse values that cannot work together, here, or by a name that is not known.

    Raises:
      UserError: one line that names the key, its value and what it may be.
    """
    ranges.one_of("model.", settings.model, name=NETWORKS)
    left = left_open(settings)
    if "image.image_size" not in left:
        ranges.at_least("image.", settings.image, image_size=_LEAST_SIDE)
    check_dtype(settings)
    if settings.model.freeze_batch_norm and settings.model.batch_norm_devices:
        raise UserError(
            f"model.batch_norm_devices: {settings.model.batch_norm_devices} has no effect with "
            "model.freeze_batch_norm=True, which takes no statistics of a batch; set one of them back"
        )
    if settings.warmup_epochs > settings.epochs and "epochs" not in left:
        raise UserError(
            f"warmup_epochs: {settings.warmup_epochs} exceeds epochs, {settings.epochs}; lower it too, such "
            f"as by --config.warmup_epochs={settings.epochs // 5}"
        )
    if settings.model.frozen and settings.test_time_flip and "model.frozen" not in left:
        raise UserError(
            "test_time_flip: features of a frozen network cannot be mirrored; set model.frozen=''"
        )
    ranges.one_of("", settings, live=("", *WRITERS))
    held_out = settings.data.holdout or settings.data.holdout_fraction
    if settings.confusion.source == "holdout" and not held_out:
        raise UserError("confusion.source: holdout needs a split; set data.holdout or data.holdout_fraction")
    if settings.seed + settings.reproduce.seeds > 2**32:
        raise UserError(f"seed: {settings.seed} must be below 2^32, with reproduce.seeds added")


def check_dtype(settings: Settings) -> None:
    """Refuse numbers that JAX is not set to compute with.

    Raises:
      UserError: float64 without its switch.
    """
    if settings.model.dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise UserError("model.dtype: float64 needs JAX_ENABLE_X64=1 in the environment")
