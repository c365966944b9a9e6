"""Costs from elsewhere than counts: a user's cost matrix, or the taxonomy, in the place of the confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cdml_jax.confusion.interface import Statistics
from cdml_jax.confusion.pairs import DensePairWeights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int


def taxonomy_costs(families: Int[np.ndarray, " classes"], *, across: float = 0.01) -> np.ndarray:
    """Cost matrix M of a taxonomy: 1 for two classes of one family, `across` for others, 0 on the diagonal.

    Args:
      families: the family of each class.
      across: ε, the cost of a confusion across families.

    Returns:
      (C, C) float32.

    >>> taxonomy_costs(np.array([0, 0, 1]), across=0.5).tolist()
    [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.0]]
    """
    families = np.asarray(families)
    costs = np.where(families[:, None] == families, 1.0, across)
    np.fill_diagonal(costs, 0)
    return costs.astype(np.float32)


def checked_costs(
    costs: np.ndarray, names: Sequence[str] | None = None
) -> Float[np.ndarray, "classes classes"]:
    """A cost matrix as float32 with a diagonal of 0.

    Args:
      costs: M, (C, C).
      names: of the classes, for messages.

    Raises:
      ValueError: it is not square, has an entry that is negative or not finite or one that float32 cannot
        hold, or no entry above 0 off the diagonal.
    """
    costs = np.array(costs, np.float64)
    if costs.ndim != 2 or costs.shape[0] != costs.shape[1]:
        raise ValueError(f"costs must be square (classes, classes), not {costs.shape}")
    np.fill_diagonal(costs, 0)
    limits = np.finfo(np.float32)
    wrong = ~np.isfinite(costs) | (costs < 0)
    outside = (costs > limits.max / len(costs) ** 2) | ((costs < limits.tiny) & (costs > 0))
    for places, must in ((wrong, "be finite and not negative"), (outside, "be between 1e-37 and 1e30")):
        if places.any():
            i, j = np.argwhere(places)[0]
            place = f"{names[i]}, {names[j]}" if names else f"[{i}, {j}]"
            raise ValueError(f"costs must {must}; {place} is {costs[i, j]:g}")
    if not costs.any():
        raise ValueError("costs must have an entry above 0 off the diagonal")
    return costs.astype(np.float32)


def cost_statistics(
    costs: Float[np.ndarray, "classes classes"], confused: Float[np.ndarray, "classes classes"] | None
) -> Statistics:
    r"""Expected costs in the place of the error rates, and the costs in the place of the pair weights.

    .. math:: A = M / \sum M, \qquad W_i \propto \sum_{j \ne i} M_{ij} P_{ij}, \quad \text{of mean 1}

    Args:
      costs: M, as `checked_costs` gives.
      confused: P off the diagonal, up to a factor, such as the pair weights of the counts; None before there
        are counts, and then W = 1.

    Returns:
      W (C,) float32 and A, which sums to 1. W = 1 where no confusion costs anything.

    >>> costs = np.array([[0.0, 3.0], [1.0, 0.0]])
    >>> statistics = cost_statistics(costs, np.array([[0.0, 0.5], [0.5, 0.0]]))
    >>> statistics.rates.tolist(), statistics.pairs.matrix.tolist()
    ([1.5, 0.5], [[0.0, 0.75], [0.25, 0.0]])
    """
    pairs = DensePairWeights(np.asarray(costs / costs.sum(dtype=np.float64), np.float32))
    expected = np.zeros(len(costs)) if confused is None else (costs * np.float64(confused)).sum(axis=1)
    mean = expected.mean()
    weights = expected / mean if mean > 0 else np.ones(len(costs))
    return Statistics(np.asarray(weights, np.float32), pairs)
