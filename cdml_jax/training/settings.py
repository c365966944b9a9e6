"""All settings that decide what is trained, and the groups that several files of training read.

A group that a single file reads is defined there: `OptimizerSettings` in optimizer.py, `MeshSettings` in
mesh.py. What each key means stands in `configs/base.py`.
"""

from __future__ import annotations

import dataclasses

from cdml_jax.data.images.transforms import Transform
from cdml_jax.data.settings import DataSettings
from cdml_jax.distributed.mesh import MeshSettings
from cdml_jax.errors import UserError
from cdml_jax.models.settings import ModelSettings
from cdml_jax.system import ranges
from cdml_jax.training.optimizer import OptimizerSettings
from cdml_jax.training.storage import NAMES

# What `confusion.source` may be: what is counted, or what stands in the place of counts.
COUNTED = ("train", "holdout", "out_of_fold")
TAXONOMY, FILE = "taxonomy", "file:"


@dataclasses.dataclass(frozen=True)
class ConfusionSettings:
    """The group `confusion`: what is counted, for how long, and how the counts are stored."""

    counts: str
    source: str
    decay: float
    smoothing: float
    symmetric: bool
    storage: str
    top_k: int

    def __post_init__(self) -> None:
        ranges.one_of("confusion.", self, counts=("hard", "soft"), storage=NAMES)
        ranges.at_least("confusion.", self, smoothing=0, top_k=1)
        ranges.shares("confusion.", self, "decay")
        if self.source not in (*COUNTED, TAXONOMY) and not self.source.startswith(FILE):
            known = ", ".join((*COUNTED, TAXONOMY, f"{FILE}PATH"))
            raise UserError(f"confusion.source: {self.source!r} is unknown; choose one of {known}")


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings:
    """The group `objective`: class weights, triplets and the costs of pairs."""

    mode: str
    beta: float
    normalize: bool
    margin: float
    triplet_weight: float
    triplets_per_image: int
    in_batch: str
    label_smoothing: float
    pair_beta: float
    term_factor: float

    def __post_init__(self) -> None:
        ranges.one_of("objective.", self, mode=("rate", "one_plus_rate"), in_batch=("confusion", "uniform"))
        ranges.at_least(
            "objective.",
            self,
            beta=0,
            margin=0,
            pair_beta=0,
            term_factor=0,
            triplet_weight=0,
            triplets_per_image=1,
        )
        ranges.shares("objective.", self, "label_smoothing")


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """The group `sampling`: how batches are composed."""

    composed: float
    images_per_class: int
    classes_per_group: int
    composition_correction: bool

    def __post_init__(self) -> None:
        ranges.at_least("sampling.", self, images_per_class=1, classes_per_group=1)
        ranges.shares("sampling.", self, "composed")


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """All that decides what is trained; a run over time has more (`configuration.settings.Settings`)."""

    source: str
    data: DataSettings
    image: Transform
    model: ModelSettings
    method: str
    seed: int
    epochs: int
    warmup_epochs: int
    batch_size: int
    accumulation: int
    mesh: MeshSettings
    evaluate_every: int
    early_stopping: int
    test_time_flip: bool
    optimizer: OptimizerSettings
    confusion: ConfusionSettings
    objective: ObjectiveSettings
    sampling: SamplingSettings

    def __post_init__(self) -> None:
        ranges.at_least("", self, seed=0, accumulation=1, early_stopping=0)
        ranges.at_least_or_open("", self, epochs=1, warmup_epochs=0, batch_size=1, evaluate_every=1)
