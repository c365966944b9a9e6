"""Which images meet: the batches of an epoch, planned on the host, and triplets inside a batch, on device."""

from cdml_jax.sampling.plan import composition_correction, expected_class_shares, plan_epoch
from cdml_jax.sampling.triplets import Triplets, sample_triplets

__all__ = ["Triplets", "composition_correction", "expected_class_shares", "plan_epoch", "sample_triplets"]
