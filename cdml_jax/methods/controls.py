"""Controls, which isolate where a gain comes from: composition, triplets, class size or hardness alone."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from cdml_jax.methods.class_sizes import class_balanced, inverse_frequency
from cdml_jax.methods.facts import Facts, ones, uniform
from cdml_jax.methods.method import Method


def by_inverse_frequency(facts: Facts) -> np.ndarray:
    """Class weights ∝ 1 / n_i."""
    return np.asarray(inverse_frequency(jnp.asarray(facts.sizes)))


def by_effective_number(facts: Facts) -> np.ndarray:
    """Class weights ∝ 1 / effective number of images."""
    return np.asarray(class_balanced(jnp.asarray(facts.sizes)))


METHODS = {
    "composition_only": Method("Composed batches alone", composed=True),
    "triplets_only": Method("Confusion triplets alone", miner="drawn"),
    "uniform_pairs": Method(
        "Uniform pairs", pair_weights=uniform, group_weights=ones, miner="drawn", composed=True
    ),
    "inverse_frequency": Method("Inverse class frequency", class_weights=by_inverse_frequency),
    "class_balanced": Method(
        "Class-balanced loss", "Cui et al., CVPR 2019", class_weights=by_effective_number
    ),
    "focal": Method("Focal loss", "Lin et al., ICCV 2017", focal_gamma=2.0),
    "batch_hard": Method(
        "Batch-hard triplets",
        "Hermans, Beyer and Leibe, 2017",
        pair_weights=uniform,
        group_weights=ones,
        miner="batch_hard",
        composed=True,
    ),
    "semi_hard": Method(
        "Semi-hard triplets",
        "Schroff, Kalenichenko and Philbin, CVPR 2015",
        pair_weights=uniform,
        group_weights=ones,
        miner="semi_hard",
        composed=True,
    ),
    "pair_costs": Method("Confusion-weighted logits", pair_beta=1.0),
    "pair_costs_triplets": Method(
        "Confusion-weighted logits and triplets", pair_beta=1.0, miner="drawn", composed=True
    ),
}
