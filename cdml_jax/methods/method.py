"""What a table compares: one method, as a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from cdml_jax.confusion import PairWeights
from cdml_jax.methods.facts import Facts, by_confusion, ones, rates
from cdml_jax.methods.structure import PLAIN, Structure


@dataclasses.dataclass(frozen=True)
class Method:
    """One method that a table compares.

    All but `structure` is data of the compiled step: methods of equal structure share one. In the warm-up
    epochs every method is the baseline.

    Attributes:
      title: what tables call it.
      source: its citation.
      class_weights: weights of the softmax, (C,), from the facts of an epoch.
      pair_weights: law by which triplets are drawn and groups are composed, from the same.
      group_weights: law of the anchor classes of composed groups, (C,).
      miner: how triplets are found, a key of `cdml_jax.sampling.mining.MINERS`; "" for no triplet term.
      composed: whether batches are composed of groups of classes.
      focal_gamma: γ of the focal loss; 0 for plain cross-entropy.
      pair_beta: factor of `objective.pair_beta`, the β of confusion-weighted logits; 0 for plain logits.
      structure: what makes its compiled step differ from the baseline's.

    >>> Method("Wide margins", miner="drawn").composed
    False
    """

    title: str
    source: str = ""
    class_weights: Callable[[Facts], Any] = ones
    pair_weights: Callable[[Facts], PairWeights] = by_confusion
    group_weights: Callable[[Facts], Any] = rates
    miner: str = ""
    composed: bool = False
    focal_gamma: float = 0.0
    pair_beta: float = 0.0
    structure: Structure = PLAIN
