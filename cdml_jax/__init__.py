"""Cost-sensitive deep metric learning for fine-grained image classification, in JAX.

The objective, the confusion statistics and the sampling need jax and numpy alone; training, data and
reporting come with the extras `train` and `report`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax

from cdml_jax import confusion, losses, retrieval, sampling
from cdml_jax.losses import (
    confusion_triplet_loss,
    confusion_weighted_logits,
    masked_mean,
    squared_distance,
    triplet_margin_loss,
    weighted_softmax_cross_entropy,
)
from cdml_jax.sampling import (
    Triplets,
    composition_correction,
    expected_class_shares,
    plan_epoch,
    sample_triplets,
)

if TYPE_CHECKING:
    from cdml_jax.inference import TrainedRun

__version__ = "0.1.0"

__all__ = [
    "Triplets",
    "composition_correction",
    "confusion",
    "confusion_triplet_loss",
    "confusion_weighted_logits",
    "expected_class_shares",
    "load",
    "losses",
    "masked_mean",
    "plan_epoch",
    "retrieval",
    "sample_triplets",
    "sampling",
    "squared_distance",
    "triplet_margin_loss",
    "weighted_softmax_cross_entropy",
]


def load(workdir: str | os.PathLike, *, devices: Sequence[jax.Device] | None = None) -> TrainedRun:
    """The run that `cdml train` left in a workdir, to be called on images; needs the extra `train`.

    Args:
      workdir: its folder. The images that it was trained on need not be there.
      devices: those that share the work; None for all of this process.

    Raises:
      UserError: it holds no run of `cdml train`, or no checkpoint that can be read.
    """
    from cdml_jax import inference  # here: what it imports does not come with the base install

    return inference.load(workdir, devices=devices)
