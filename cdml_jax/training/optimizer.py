"""Optimisation as optax gives it: schedule, clipping, decay without norms and biases."""

from __future__ import annotations

import jax
import optax
from ml_collections import ConfigDict

from cdml_jax.errors import UserError


def make_schedule(settings: ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate of each step: linear warm-up, then cosine to 0 (or constant)."""
    warmup = round(settings.warmup_share * steps)
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else settings.learning_rate, settings.learning_rate, warmup, steps
        )
    if settings.schedule == "constant":
        return optax.warmup_constant_schedule(0.0, settings.learning_rate, max(warmup, 1))
    raise UserError(f"optimizer.schedule: {settings.schedule!r} is unknown; choose one of cosine, constant")


def make_optimizer(settings: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clipping, then SGD with momentum or AdamW, heads at a multiple of the learning rate.

    Weight decay leaves vectors (norms, biases) alone; with SGD it is added to the gradient, as usual.

    Raises:
      UserError: an unknown name.
    """

    def matrices(parameters):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)

    def heads(parameters):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: any(getattr(k, "key", None) == "heads" for k in path), parameters
        )

    if settings.name == "sgd":
        core = optax.chain(
            optax.add_decayed_weights(settings.weight_decay, mask=matrices),
            optax.sgd(schedule, momentum=settings.momentum, nesterov=True),
        )
    elif settings.name == "adamw":
        core = optax.adamw(schedule, weight_decay=settings.weight_decay, mask=matrices)
    else:
        raise UserError(f"optimizer.name: {settings.name!r} is unknown; choose one of adamw, sgd")
    clip = optax.clip_by_global_norm(settings.clip_norm) if settings.clip_norm > 0 else optax.identity()
    return optax.chain(clip, core, optax.masked(optax.scale(settings.head_multiplier), heads))
