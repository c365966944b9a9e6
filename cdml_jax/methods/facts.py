"""What is known when an epoch's weights are made, and the weights that methods make of it.

A weight is a function from `Facts` to an array, so a method names what it uses, and a method of your own can
bring its own function.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from cdml_jax.confusion import Confusion, PairWeights, Statistics
from cdml_jax.confusion.rates import weights_of_rates
from cdml_jax.data.classes import Classes

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Facts:
    """What an epoch's weights are made of, on the host.

    Attributes:
      statistics: error rates W (C,) and pair weights A of the confusion so far, or of the costs that
        `confusion.source` names.
      sizes: training images of each class, (C,).
      classes: names of the classes and their families.
      confusion: counts so far; None where costs stand in their place.
      costs: the cost matrix (C, C) that stands in the place of counts; None where they are counted.
      smoothing, mode, beta, normalize: of class weights by confusion, as `confusion.class_weights` has them.
    """

    statistics: Statistics
    sizes: Int[np.ndarray, " classes"]
    classes: Classes
    confusion: Confusion | None = None
    costs: Float[np.ndarray, "classes classes"] | None = None
    smoothing: float = 1.0
    mode: str = "rate"
    beta: float = 1.0
    normalize: bool = True


def ones(facts: Facts) -> Float[np.ndarray, " classes"]:
    """Equal weights of all classes."""
    return np.ones(facts.sizes.size, np.float32)


def rates(facts: Facts) -> Float[np.ndarray, " classes"]:
    """The error rates W themselves.

    Source: Zhao and Peng (2018), weighted softmax.
    """
    return facts.statistics.rates


def by_error_rate(facts: Facts) -> Float[np.ndarray, " classes"]:
    """Weights that grow with the error rate: W, or 1 + β W, of mean 1 where `normalize`.

    Source: Zhao and Peng (2018), weighted softmax; 1 + β W is this library's.
    """
    form: dict[str, Any] = {"mode": facts.mode, "beta": facts.beta, "normalize": facts.normalize}
    if facts.confusion is None:
        return np.asarray(weights_of_rates(jnp.asarray(facts.statistics.rates), **form))
    return facts.confusion.class_weights_on_host(smoothing=facts.smoothing, **form)


def by_confusion(facts: Facts) -> PairWeights:
    """The pair weights A: how often two classes are confused.

    Source: Zhao and Peng (2018), confusion driven deep metric learning.
    """
    return facts.statistics.pairs


def uniform(facts: Facts) -> PairWeights:
    """Equal weights of all pairs of classes, stored as A is."""
    return facts.statistics.pairs.uniform()
