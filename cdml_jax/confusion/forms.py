"""Plain arrays as the forms that counts and pair weights have."""

from __future__ import annotations

from typing import Any

from cdml_jax.confusion.by_class import ByClassConfusion, ByClassPairWeights
from cdml_jax.confusion.counts import DenseConfusion
from cdml_jax.confusion.interface import Confusion, PairWeights
from cdml_jax.confusion.pairs import DensePairWeights
from cdml_jax.confusion.top import TopConfusions
from cdml_jax.confusion.top_pairs import TopPairWeights


def as_confusion(counts: Any) -> Confusion:
    """Counts of any form as they are; an array (C, C) as `DenseConfusion`."""
    known = isinstance(counts, (DenseConfusion, ByClassConfusion, TopConfusions))
    return counts if known else DenseConfusion(counts)


def as_pair_weights(pairs: Any) -> PairWeights:
    """Pair weights of any form as they are; an array (C, C) as `DensePairWeights`."""
    known = isinstance(pairs, (DensePairWeights, ByClassPairWeights, TopPairWeights))
    return pairs if known else DensePairWeights(pairs)
