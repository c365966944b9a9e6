"""The whole of a run's settings: frozen, typed, with the names and the order of `configs/base.py`.

Each part is defined where it is read; what only a run over time reads is defined here. Defaults stand in
`configs/base.py` alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from cdml_jax.configuration import keys
from cdml_jax.data.images.transforms import Transform
from cdml_jax.data.settings import DataSettings
from cdml_jax.distributed.mesh import MeshSettings
from cdml_jax.errors import UserError
from cdml_jax.models.settings import ModelSettings
from cdml_jax.system import ranges
from cdml_jax.training.optimizer import OptimizerSettings
from cdml_jax.training.settings import (
    ConfusionSettings,
    ObjectiveSettings,
    SamplingSettings,
    TrainingSettings,
)


@dataclasses.dataclass(frozen=True)
class ReproduceSettings:
    """The group `reproduce`: what a table holds."""

    methods: tuple[str, ...]
    seeds: int
    folds: int
    embeddings: bool

    def __post_init__(self) -> None:
        ranges.names("reproduce.", self, "methods")
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise UserError(f"reproduce.methods: {self.methods} must name each method once")
        ranges.at_least("reproduce.", self, seeds=1)


@dataclasses.dataclass(frozen=True)
class CheckpointSettings:
    """The group `checkpoint`: how often a run is saved, and how many of its checkpoints are kept."""

    every_seconds: float
    keep: int

    def __post_init__(self) -> None:
        ranges.at_least("checkpoint.", self, every_seconds=0, keep=1)


@dataclasses.dataclass(frozen=True)
class ProfileSettings:
    """The group `profile`: which steps are traced."""

    steps: int
    start_step: int

    def __post_init__(self) -> None:
        ranges.at_least("profile.", self, steps=0, start_step=0)


@dataclasses.dataclass(frozen=True)
class Settings(TrainingSettings):
    """All that a run is configured with; what each key means stands in `configs/base.py`.

    A value that cannot work raises `UserError` here; `checks.check` compares values with each other.
    """

    reproduce: ReproduceSettings
    checkpoint: CheckpointSettings
    profile: ProfileSettings
    live: str
    compilation_cache: str


_GROUPS: dict[str, Any] = {
    "data": DataSettings,
    "image": Transform,
    "model": ModelSettings,
    "mesh": MeshSettings,
    "optimizer": OptimizerSettings,
    "confusion": ConfusionSettings,
    "objective": ObjectiveSettings,
    "sampling": SamplingSettings,
    "reproduce": ReproduceSettings,
    "checkpoint": CheckpointSettings,
    "profile": ProfileSettings,
}


def defaults() -> Settings:
    """What `configs/base.py` says."""
    return from_plain(keys.defaults())


def to_plain(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them: nested dictionaries in the order of `configs/base.py`, lists for tuples.

    >>> to_plain(defaults())["image"]["scale"]
    [0.35, 1.0]
    """
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def from_plain(values: Mapping[str, Any]) -> Settings:
    """Settings of nested dictionaries, as `to_plain` gives them or a configuration's file.

    Raises:
      UserError: a key too many or too few, a value of another type or one that cannot work.
    """
    fitted = keys.fitted(values)
    return Settings(**fitted | {name: group(**fitted[name]) for name, group in _GROUPS.items()})


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings that differ from others in some keys.

    >>> changed(defaults(), {"epochs": 20, "optimizer.learning_rate": 0.01}).optimizer.learning_rate
    0.01
    >>> changed(defaults(), {"optimizer.learning_rat": 0.01})
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: optimizer.learning_rat: there is no such key; did you mean \
optimizer.learning_rate?

    Args:
      settings: those to begin with; they stay as they are.
      changes: values by dotted keys.

    Raises:
      UserError: a key that does not exist, a value of another type or one that cannot work.
    """
    return from_plain(keys.replaced(dataclasses.asdict(settings), changes))
