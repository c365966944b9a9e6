"""Cost-sensitive deep metric learning for fine-grained image classification, in JAX.

The objective, the confusion statistics and the sampling need jax and numpy alone; training, data and
reporting come with the extras `train` and `report`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax

    from cdml_jax import confusion, losses, retrieval, sampling
    from cdml_jax.inference import TrainedRun
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

# Loaded when first asked for: the command line answers a mistake, or starts itself anew, without JAX.
_MODULES = ("confusion", "losses", "retrieval", "sampling")
_OF_SAMPLING = (
    "Triplets",
    "composition_correction",
    "expected_class_shares",
    "plan_epoch",
    "sample_triplets",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"cdml_jax.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'cdml_jax' has no attribute {name!r}")
    module = importlib.import_module("cdml_jax.sampling" if name in _OF_SAMPLING else "cdml_jax.losses")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
