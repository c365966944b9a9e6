"""Pairwise Confusion, and its cross with confusion: the same term on pairs of classes that are confused.

Source: Dubey, Gupta, Guo, Raskar, Farrell and Naik, "Pairwise Confusion for Fine-Grained Visual
Classification", ECCV 2018. The cross is this library's.
"""

from cdml_jax.methods.method import Method
from cdml_jax.methods.structure import Structure
from cdml_jax.methods.terms import ConfusedPairs, PairwiseConfusion

METHODS = {
    "pairwise_confusion": Method(
        "Pairwise Confusion",
        "Dubey et al., ECCV 2018",
        structure=Structure("pairwise_confusion", terms=(PairwiseConfusion(),)),
    ),
    "confused_pairs": Method(
        "Pairwise Confusion of confused classes",
        structure=Structure("confused_pairs", terms=(ConfusedPairs(),)),
    ),
}
