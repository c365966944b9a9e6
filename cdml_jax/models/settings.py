"""Which network a run trains, and from what it starts: the group `model` of the settings."""

from __future__ import annotations

import dataclasses

from cdml_jax.models.spec import spec_of
from cdml_jax.system import ranges


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The group `model`; what each key means stands in `configs/base.py`.

    The first keys are the network's own; `weights`, `frozen` and `frozen_views` say how it is trained.
    """

    name: str
    embedding_size: int
    embedding_from: str
    classifier: str
    cosine_scale: float
    dtype: str
    style: str
    freeze_batch_norm: bool
    remat: bool
    batch_norm_devices: int
    weights: str
    frozen: str
    frozen_views: int

    def __post_init__(self) -> None:
        ranges.at_least("model.", self, embedding_size=1, batch_norm_devices=0, frozen_views=0)
        # `Spec` judges what the network is built from; `configuration.checks` looks the name up.
        spec_of(self, num_classes=1)
