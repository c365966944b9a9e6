"""Cost-sensitive deep metric learning for fine-grained image classification, in JAX.

The objective, the confusion statistics and the sampling need jax and numpy alone; training, data and
reporting come with the extras `train` and `report`.
"""

from cdml_jax import confusion, losses, sampling
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
    "losses",
    "masked_mean",
    "plan_epoch",
    "sample_triplets",
    "sampling",
    "squared_distance",
    "triplet_margin_loss",
    "weighted_softmax_cross_entropy",
]
