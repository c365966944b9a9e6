"""Optimisation as optax gives it: schedule, clipping, decay without norms and biases, freezing by name."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cdml_jax.errors import UserError
from cdml_jax.system import ranges
from cdml_jax.system.trees import dotted_name

NO_RATES: Mapping[str, float] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The group `optimizer`; what each key means stands in `configs/base.py`."""

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup_share: float
    clip_norm: float
    head_multiplier: float
    layer_decay: float
    freeze: tuple[str, ...]
    freeze_epochs: int
    ema_decay: float

    def __post_init__(self) -> None:
        ranges.one_of("optimizer.", self, name=("sgd", "adamw"), schedule=("cosine", "constant"))
        ranges.at_least(
            "optimizer.",
            self,
            learning_rate=0,
            weight_decay=0,
            clip_norm=0,
            head_multiplier=0,
            freeze_epochs=-1,
        )
        ranges.shares("optimizer.", self, "warmup_share", "momentum", "ema_decay", "layer_decay")
        ranges.names("optimizer.", self, "freeze")


def idle_freeze(settings: OptimizerSettings) -> str:
    """What is said of one of the two keys of a freeze without the other, which does nothing; else ""."""
    if settings.freeze and not settings.freeze_epochs:
        return (
            f"optimizer.freeze_epochs: 0 trains {', '.join(settings.freeze)} (optimizer.freeze) from the "
            "first step; a number of epochs, or -1 for ever, freezes them"
        )
    if settings.freeze_epochs and not settings.freeze:
        return (
            f"optimizer.freeze_epochs: {settings.freeze_epochs}, but optimizer.freeze names nothing to freeze"
        )
    return ""


def make_schedule(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Learning rate of each step: linear warm-up, then cosine to 0 (or constant).

    Raises:
      UserError: the warm-up leaves a cosine no step.
    """
    warmup = round(settings.warmup_share * steps)
    if settings.schedule == "constant":
        return optax.warmup_constant_schedule(0.0, settings.learning_rate, max(warmup, 1))
    if warmup >= steps:
        raise UserError(
            f"optimizer.warmup_share: {settings.warmup_share} leaves no step to decay in, of {steps} steps; "
            "lower it"
        )
    return optax.warmup_cosine_decay_schedule(
        0.0 if warmup else settings.learning_rate, settings.learning_rate, warmup, steps
    )


def make_optimizer(
    settings: OptimizerSettings,
    schedule: optax.Schedule,
    *,
    steps_per_epoch: int,
    outside: tuple[str, ...] = (),
    rates: Mapping[str, float] = NO_RATES,
    apart: tuple[str, ...] = (),
) -> optax.GradientTransformation:
    """Clipping, then SGD with momentum or AdamW, at a learning rate that depends on the layer.

    The rate of the heads and of a method's part is `head_multiplier` times the schedule's, that of block k of
    n `layer_decay` to the power n − k (what comes before the blocks: n + 1); both are multiplied by those of
    `rates`, by the beginning of a name, which a method's part brings. Parameters whose dotted names
    begin with one of `freeze` stay as they are for `freeze_epochs` epochs, or for ever if that is −1. Those
    of `outside`, which the loss does not use, are left alone and have no momentum. The gradients of each
    name of `apart` are clipped by themselves, so that they do not shorten the others'.
    Weight decay leaves vectors (norms, biases) alone; with SGD it is added to the gradient, as usual.

    Raises:
      UserError: from `init`, a name in `freeze` that no parameter begins with, or a layer
        decay for a network without blocks.
    """

    def matrices(parameters: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)

    if settings.name == "sgd":
        core = optax.chain(
            optax.add_decayed_weights(settings.weight_decay, mask=matrices),
            optax.sgd(schedule, momentum=settings.momentum, nesterov=True),
        )
    else:
        core = optax.adamw(schedule, weight_decay=settings.weight_decay, mask=matrices)
    clip = _clip(settings.clip_norm, apart)
    # Before, so that neither the norm nor the momentum sees a frozen gradient; after, for the weight decay.
    freeze = _freeze(settings.freeze, settings.freeze_epochs, steps_per_epoch)
    by_layer = _by_layer(settings.head_multiplier, settings.layer_decay, rates)
    if outside:
        core = optax.masked(
            core, lambda parameters: jax.tree.map(np.logical_not, _named(parameters, outside))
        )
    return optax.chain(freeze, clip, core, by_layer, freeze)


def _clip(norm: float, apart: tuple[str, ...]) -> optax.GradientTransformation:
    if norm <= 0:
        return optax.identity()
    whole = optax.clip_by_global_norm(norm)
    if not apart:
        return whole
    others = optax.masked(whole, lambda updates: jax.tree.map(np.logical_not, _named(updates, apart)))
    own = [optax.masked(whole, lambda updates, name=name: _named(updates, (name,))) for name in apart]
    return optax.chain(others, *own)


def _freeze(names: tuple[str, ...], epochs: int, steps_per_epoch: int) -> optax.GradientTransformation:
    if not names or epochs == 0:
        return optax.identity()

    def frozen(parameters: Any) -> Any:
        known = [dotted_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(parameters)]
        for name in names:
            if not any(_begins(key, name) for key in known):
                groups = sorted({key.partition(".")[0] for key in known})
                raise UserError(
                    f"optimizer.freeze: no parameter begins with {name!r}; there are {', '.join(groups)}"
                )
        return _named(parameters, names)

    if epochs < 0:
        return optax.masked(optax.set_to_zero(), frozen)
    first_free = epochs * steps_per_epoch
    gate = optax.scale_by_schedule(lambda step: jnp.where(step >= first_free, 1.0, 0.0))
    return optax.masked(gate, frozen)


def _named(parameters: Any, names: tuple[str, ...]) -> Any:
    """Whether each parameter's name begins with one of the names."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(_begins(dotted_name(path), name) for name in names), parameters
    )


def _begins(key: str, name: str) -> bool:
    return key == name or key.startswith(name + ".")


def _by_layer(
    head_multiplier: float, decay: float, rates: Mapping[str, float]
) -> optax.GradientTransformation:
    def update(updates: Any, state: Any, parameters: Any = None) -> Any:
        scales = layer_scales(updates, head_multiplier=head_multiplier, decay=decay, rates=rates)
        return jax.tree.map(lambda scale, leaf: scale * leaf, scales, updates), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def layer_scales(
    parameters: Any, *, head_multiplier: float, decay: float, rates: Mapping[str, float] = NO_RATES
) -> Any:
    """Factor of the learning rate for each parameter, as a tree of floats.

    Args:
      parameters: the tree, by whose names it is decided.
      head_multiplier: of the heads and of a method's part.
      decay: of a block over the next one.
      rates: by the beginning of a name, what its factor is multiplied by besides; of a method's part.

    Raises:
      UserError: a decay for a network without blocks.
      ValueError: no parameter has one of the names in `rates`.

    >>> layers = {"stem": {"kernel": 0}, "blocks": {0: {"kernel": 0}, 1: {"kernel": 0}}, "heads": {"bias": 0}}
    >>> scales = layer_scales(layers, head_multiplier=10.0, decay=0.5)
    >>> [scales["stem"]["kernel"], scales["blocks"][0]["kernel"], scales["blocks"][1]["kernel"]]
    [0.25, 0.5, 1.0]
    >>> scales["heads"]["bias"]
    10.0
    >>> layer_scales(layers, head_multiplier=10.0, decay=0.5, rates={"heads": 3.0})["heads"]["bias"]
    30.0

    Source: of the decay: Clark, Luong, Le and Manning, "ELECTRA", ICLR 2020, section 3.1.
    """
    keys = [dotted_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(parameters)]
    for name in rates:
        if not any(_begins(key, name) for key in keys):
            raise ValueError(f"a learning rate is given to {name}, and no parameter begins so")
    names = [key.split(".") for key in keys]
    blocks = 1 + max((int(name[1]) for name in names if name[0] == "blocks"), default=-1)
    if decay != 1 and not blocks:
        raise UserError("optimizer.layer_decay: this network has no row of blocks; set it to 1")

    def of_layer(key: str) -> float:
        first, *rest = key.split(".")
        if first in ("heads", "part"):
            return head_multiplier
        if first == "blocks":
            return decay ** (blocks - 1 - int(rest[0]))
        return 1.0 if first == "norm" else decay**blocks

    def scale(path: tuple, _: Any) -> float:
        key = dotted_name(path)
        return math.prod((rate for name, rate in rates.items() if _begins(key, name)), start=of_layer(key))

    return jax.tree_util.tree_map_with_path(scale, parameters)
