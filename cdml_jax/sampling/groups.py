"""Groups of confusing classes for a plan of batches, on the host.

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image
Classification", MMM 2018; the composition of batches is this library's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cdml_jax.confusion import PairWeights

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def draw_groups(
    draws: np.random.Generator,
    rates: Float[np.ndarray, " classes"],
    pairs: PairWeights,
    present: Bool[np.ndarray, " classes"],
    steps: int,
    size: int,
) -> Int[np.ndarray, "steps size"]:
    """Classes of a group for each step: an anchor ∝ rates, others ∝ its pairs; −1 for none.

    The others are drawn without replacement.
    """
    cumulative = np.cumsum(rates)
    anchors = np.searchsorted(cumulative, draws.random(steps) * cumulative[-1], side="right")
    anchors = np.minimum(anchors, np.flatnonzero(rates)[-1])
    groups = np.full((steps, size), -1, np.int64)
    groups[:, 0] = anchors
    if size > 1:
        for step, found in enumerate(pairs.others(draws, anchors, size - 1, present)):
            groups[step, 1 : 1 + len(found)] = found
    return groups
