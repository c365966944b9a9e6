"""What the log of an epoch says of weights: the most confused pairs, and the heaviest classes, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cdml_jax.confusion import Statistics

_HEAVIEST = 10


def weights_of_epoch(
    costs: Any, statistics: Statistics, shares: np.ndarray, names: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The realised share of the most confused pairs, and the largest class weights, by name.

    While all pairs weigh the same, as before anything was confused, none is the most confused: the list is
    empty.

    Args:
      costs: of the epoch, on the host.
      statistics: of the epochs before.
      shares: of the epoch's triplets, of each watched pair.
      names: of the classes.
    """
    weights = statistics.pairs.at(costs.watched_pairs)
    pairs = [
        {"true": names[i], "called": names[j], "weight": float(weight), "share": float(share)}
        for (i, j), weight, share in zip(costs.watched_pairs.tolist(), weights, shares)
    ]
    # The largest weight is the mean of all: so they are all the same, and the first pairs are first by name.
    if len(names) > 1 and np.max(weights, initial=0.0) * len(names) * (len(names) - 1) < 1 + 1e-4:
        pairs = []
    of_classes = np.asarray(costs.class_weights)[: len(names)]
    heaviest = np.argsort(-of_classes, kind="stable")[:_HEAVIEST]
    classes = [{"name": names[label], "weight": float(of_classes[label])} for label in heaviest]
    return {"confused_pairs": pairs, "class_weights": classes}
