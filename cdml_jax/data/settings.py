"""Which images a run reads: the group `data` of the settings."""

from __future__ import annotations

import dataclasses

from cdml_jax.system import ranges


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The group `data`; what each key means stands in `configs/base.py`."""

    data_dir: str
    train: str
    validation: str
    test: str
    holdout: str
    holdout_fraction: float
    validation_fraction: float
    test_fraction: float
    class_disjoint: bool
    boxes: str
    label_noise: float
    check: bool
    cache_bytes: int
    num_threads: int

    def __post_init__(self) -> None:
        # Names and shares of splits are judged by `sources.load`, which programs call too.
        ranges.at_least("data.", self, num_threads=0, cache_bytes=0)
        ranges.shares("data.", self, "label_noise")
