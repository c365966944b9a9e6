"""Checks of a configuration, before anything slow starts."""

from __future__ import annotations

import math
from collections.abc import Collection

import jax
from ml_collections import ConfigDict

from cdml_jax.errors import UserError
from cdml_jax.methods import named_method
from cdml_jax.models import NETWORKS, STYLES
from cdml_jax.training.costs import check_source
from cdml_jax.training.keys import check_keys
from cdml_jax.training.storage import NAMES

_CHOICES: dict[str, Collection[str]] = {
    "model.name": NETWORKS,
    "model.embedding_from": ("projection", "features"),
    "model.style": ("", *STYLES),
    "model.dtype": ("float32", "bfloat16", "float64"),
    "optimizer.name": ("sgd", "adamw"),
    "optimizer.schedule": ("cosine", "constant"),
    "objective.mode": ("rate", "one_plus_rate"),
    "objective.in_batch": ("confusion", "uniform"),
    "confusion.counts": ("hard", "soft"),
    "confusion.storage": NAMES,
}
_AT_LEAST = {
    "seed": 0,
    "data.num_threads": 0,
    "data.cache_bytes": 0,
    "batch_size": 1,
    "epochs": 1,
    "warmup_epochs": 0,
    "accumulation": 1,
    "mesh.shard_parameters_from": 0,
    "mesh.cpu_devices": 0,
    "evaluate_every": 1,
    "image.image_size": 8,
    "model.embedding_size": 1,
    "model.frozen_views": 0,
    "sampling.images_per_class": 1,
    "sampling.classes_per_group": 1,
    "objective.beta": 0,
    "objective.margin": 0,
    "objective.pair_beta": 0,
    "objective.triplet_weight": 0,
    "objective.triplets_per_image": 1,
    "confusion.smoothing": 0,
    "confusion.top_k": 1,
    "optimizer.learning_rate": 0,
    "optimizer.weight_decay": 0,
    "optimizer.clip_norm": 0,
    "optimizer.head_multiplier": 0,
    "optimizer.freeze_epochs": -1,
    "checkpoint.every_seconds": 0,
    "checkpoint.keep": 1,
    "profile.steps": 0,
    "profile.start_step": 0,
}
_SHARES = (
    "sampling.composed",
    "confusion.decay",
    "objective.label_smoothing",
    "optimizer.warmup_share",
    "optimizer.momentum",
    "optimizer.ema_decay",
    "optimizer.layer_decay",
)


def lookup(config: ConfigDict, key: str):
    """Value at a dotted key."""
    for part in key.split("."):
        config = config[part]
    return config


def check(config: ConfigDict) -> None:
    """Refuse values that cannot work.

    Raises:
      UserError: one line that names the key, its value and what it may be.
    """
    check_keys(config)
    for key, choices in _CHOICES.items():
        if lookup(config, key) not in choices:
            named = ", ".join(choice or '""' for choice in choices)
            raise UserError(f"{key}: {lookup(config, key)!r} is unknown; choose one of {named}")
    for key, least in _AT_LEAST.items():
        if not lookup(config, key) >= least:
            raise UserError(f"{key}: {lookup(config, key)} must be at least {least}")
        if lookup(config, key) == math.inf:
            raise UserError(f"{key}: inf must be finite")
    for key in _SHARES:
        if not 0 <= lookup(config, key) <= 1:
            raise UserError(f"{key}: {lookup(config, key)} must be from 0 to 1")
    if config.model.dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise UserError("model.dtype: float64 needs JAX_ENABLE_X64=1 in the environment")
    if config.warmup_epochs > config.epochs:
        raise UserError(
            f"warmup_epochs: {config.warmup_epochs} exceeds epochs, {config.epochs}; lower warmup_epochs too"
        )
    if config.model.frozen and config.test_time_flip:
        raise UserError(
            "test_time_flip: features of a frozen network cannot be mirrored; set model.frozen=''"
        )
    if config.confusion.source == "holdout" and not (config.data.holdout or config.data.holdout_fraction):
        raise UserError("confusion.source: holdout needs a split; set data.holdout or data.holdout_fraction")
    if config.seed + config.reproduce.seeds > 2**32:
        raise UserError(f"seed: {config.seed} must be below 2^32, with reproduce.seeds added")
    named_method(config.row)
    check_source(config.confusion.source)
    for name in config.reproduce.rows:
        named_method(name)
    if not config.reproduce.rows or len(set(config.reproduce.rows)) != len(config.reproduce.rows):
        raise UserError(f"reproduce.rows: {config.reproduce.rows} must name each row once")
    if config.reproduce.seeds < 1:
        raise UserError(f"reproduce.seeds: {config.reproduce.seeds} must be at least 1")
