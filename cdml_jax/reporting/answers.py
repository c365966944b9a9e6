"""How good answers and their probabilities are: top-5, calibration, macro F1, what their errors cost."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cdml_jax.confusion.figures import macro_f1 as macro_f1_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Integer

    from cdml_jax.reporting.results import RunResult

BINS = 15
COLUMNS = ("test_top5_accuracy", "test_macro_f1", "test_calibration_error")
"""Names in rows.csv."""


class Bin(NamedTuple):
    """Answers whose probability lies in (low, high].

    Attributes:
      low, high: ends of the bin.
      images: how many answers are in it.
      probability: their mean; NaN without images.
      accuracy: the share of them that is right; NaN without images.
    """

    low: float
    high: float
    images: int
    probability: float
    accuracy: float


def top_accuracy(labels: Integer[np.ndarray, " images"], top_classes: Int[np.ndarray, "images top"]) -> float:
    """Share of the images whose class is among the likeliest that were kept; NaN without images.

    >>> top_accuracy(np.array([0, 2]), np.array([[1, 0], [0, 1]]))
    0.5
    """
    return float((top_classes == labels[:, None]).any(axis=1).mean()) if len(labels) else math.nan


def reliability(
    probability: Float[np.ndarray, " images"], right: Bool[np.ndarray, " images"], bins: int = BINS
) -> list[Bin]:
    """How many answers of each probability are right, in bins of equal width.

    Args:
      probability: of each answer.
      right: whether it is right.
      bins: how many.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    places = np.clip(np.searchsorted(edges, probability, side="left") - 1, 0, bins - 1)
    found = []
    for place, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = places == place
        some = bool(inside.any())
        found.append(
            Bin(
                float(low),
                float(high),
                int(inside.sum()),
                float(probability[inside].mean(dtype=np.float64)) if some else math.nan,
                float(right[inside].mean()) if some else math.nan,
            )
        )
    return found


def calibration_error(
    probability: Float[np.ndarray, " images"], right: Bool[np.ndarray, " images"], bins: int = BINS
) -> float:
    r"""Expected calibration error of answers.

    .. math:: \sum_b \frac{n_b}{n} \, |\text{accuracy}_b - \text{probability}_b|

    >>> calibration_error(np.array([0.9, 0.9, 0.6]), np.array([True, False, True]))
    0.4

    Args:
      probability: of each answer.
      right: whether it is right.
      bins: of equal width.

    Returns:
      The error in [0, 1]; NaN without images.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017, equation 3.
    """
    if not len(probability):
        return math.nan
    filled = [each for each in reliability(probability, right, bins) if each.images]
    gaps = sum(each.images * abs(each.accuracy - each.probability) for each in filled)
    return round(gaps / len(probability), 12)


def expected_cost(
    counts: Integer[np.ndarray, "classes classes"], costs: Float[np.ndarray, "classes classes"]
) -> float:
    """Mean cost of an answer: Σ_ij counts[i, j] costs[i, j] / Σ_ij counts[i, j]; NaN without images.

    Args:
      counts: [i, j] = images of class i called j.
      costs: of calling an image of class i class j; 0 on the diagonal.

    >>> expected_cost(np.array([[3, 1], [0, 4]]), np.array([[0.0, 2.0], [1.0, 0.0]]))
    0.25
    """
    images = counts.sum()
    return float((counts * np.asarray(costs, np.float64)).sum() / images) if images else math.nan


def top_5(result: RunResult) -> float:
    """Share of the test images whose class is among the five likeliest; NaN where it was not kept."""
    return top_accuracy(result.test.labels, result.test.top_classes) if result.test else math.nan


def macro_f1(result: RunResult) -> float:
    """Macro F1 of the test images."""
    return macro_f1_of(result.test_counts)


def calibration(result: RunResult) -> float:
    """Expected calibration error of the test images; NaN where probabilities were not kept."""
    said = result.test
    if said is None:
        return math.nan
    return calibration_error(said.top_probabilities[:, 0], said.top_classes[:, 0] == said.labels)


def columns(result: RunResult) -> dict[str, float | None]:
    """`COLUMNS` of a result, as fractions in [0, 1], None where something was not kept."""
    values = (top_5(result), macro_f1(result), calibration(result))
    return {name: None if math.isnan(value) else value for name, value in zip(COLUMNS, values, strict=True)}
