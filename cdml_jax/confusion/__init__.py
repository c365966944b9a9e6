"""Confusion statistics of a model and the two costs that they become.

Counts (C, C): row i is the true class, column j what the model called it; "hard" counts are images
(int32), "soft" ones sums of predicted probabilities (float32). They become P, the smoothed probability that
an image of class i is called j:

    P[i, j] = (counts[i, j] + s R[i, j]) / (Σ_k counts[i, k] + s)
    R[i, i] = 1 − ē,  R[i, j] = ē / (C − 1)

where ē is the mean row error of the classes seen (1 − 1/C if none is). So smoothing pulls a class towards the
average class: with uniform smoothing, class size alone would decide the weights. A row whose denominator
is 0 is R's row.

Where C x C is too much, `init_top` gives counts of another kind, which all but `triplet_quota` take as well
(`cdml_jax/confusion/top.py`). `Confusion` and `PairWeights` are the interfaces of all forms.

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image
Classification", MultiMedia Modeling (MMM), 2018, confusion analysis; the smoothing is this library's.
"""

from cdml_jax.confusion.by_class import ByClassConfusion, ByClassPairWeights
from cdml_jax.confusion.counts import DenseConfusion
from cdml_jax.confusion.forms import as_confusion, as_pair_weights
from cdml_jax.confusion.functions import class_weights, init, pair_weights, reduce, update
from cdml_jax.confusion.interface import Confusion, PairWeights, Statistics
from cdml_jax.confusion.pairs import DensePairWeights
from cdml_jax.confusion.quota import triplet_quota
from cdml_jax.confusion.top import TopConfusions, init_top
from cdml_jax.confusion.top_pairs import TopPairWeights

__all__ = [
    "ByClassConfusion",
    "ByClassPairWeights",
    "Confusion",
    "DenseConfusion",
    "DensePairWeights",
    "PairWeights",
    "Statistics",
    "TopConfusions",
    "TopPairWeights",
    "as_confusion",
    "as_pair_weights",
    "class_weights",
    "init",
    "init_top",
    "pair_weights",
    "reduce",
    "triplet_quota",
    "update",
]
