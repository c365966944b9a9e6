"""The data set that settings ask for."""

from __future__ import annotations

import dataclasses

from cdml_jax.data.dataset import Dataset
from cdml_jax.data.dividing.boxes import cut_out
from cdml_jax.data.dividing.label_noise import with_label_noise
from cdml_jax.data.sources import load
from cdml_jax.system import console
from cdml_jax.training.settings import TrainingSettings


def load_dataset(config: TrainingSettings, *, remembered: bool = True, **changes: str) -> Dataset:
    """The data set that a configuration asks for; `changes` replace keys of `data`, such as test="".

    Without `remembered` every image is read again, also those whose size and time of change are known.
    """
    data = dataclasses.replace(config.data, **changes)  # type: ignore[arg-type]
    dataset = load(
        config.source,
        data_dir=data.data_dir,
        train=data.train,
        validation=data.validation,
        test=data.test,
        holdout=data.holdout,
        holdout_fraction=data.holdout_fraction,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        check=data.check,
        class_disjoint=data.class_disjoint,
        remembered=remembered,
    )
    return noisy(cut_out(dataset, data.boxes), data.label_noise)


def noisy(dataset: Dataset, share: float) -> Dataset:
    """The data set with wrong labels on a share of its training images, and a line that says so."""
    if not share:
        return dataset
    dataset = with_label_noise(dataset, share)
    changed = dataset.splits["train"].changed  # type: ignore[attr-defined]
    console.say(
        f"data.label_noise: {changed.sum():,} of {changed.size:,} training images carry another class's label"
    )
    return dataset
