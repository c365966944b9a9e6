"""A method's functions are called before anything slow, and each mistake is named with its place."""

import dataclasses
import re

import numpy as np
import pytest

from cdml_jax.confusion import DenseConfusion
from cdml_jax.data import Classes
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS, Facts, Method
from cdml_jax.methods.checks import check
from cdml_jax.methods.structure import Structure

COUNTS = DenseConfusion(np.array([[8, 2, 1], [0, 9, 4], [3, 3, 1]], np.float32))
FACTS = Facts(
    COUNTS.statistics(smoothing=1.0, symmetric=False),
    np.array([11, 13, 7]),
    Classes(("crow", "raven", "wren")),
    COUNTS,
)


class Bare:
    """A term that lacks what `Term` asks for."""

    name = "bare"

    def weight(self, num_classes):
        return 0.5


class Worded(Bare):
    """A term whose weight is no number."""

    def prepare(self, labels, draw):
        return labels

    def count(self, prepared):
        return prepared.sum()

    def __call__(self, logits, embeddings, labels, prepared):
        return logits.sum()

    def weight(self, num_classes):
        return "heavy"


def numbers(*values):
    return lambda facts: np.array(values)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method("M", class_weights=numbers(1, 2)), "M: class_weights must give 3 finite numbers"),
        (Method("M", class_weights=numbers(1, 2, -1)), "it gave [1, 2, -1]"),
        (Method("M", class_weights=numbers(1, np.nan, 1)), "it gave [1, nan, 1]"),
        (Method("M", class_weights=lambda facts: 2.0), "it gave 2.0"),
        (Method("M", class_weights=lambda facts: None), "it gave None"),
        (Method("M", class_weights=lambda facts: np.ones((3, 3))), "it gave an array of shape (3, 3)"),
        (Method("M", class_weights=np.ones(3)), "class_weights must be a function of facts, not [1, 1, 1]"),
        (Method("M", class_weights=lambda facts: facts.rates), "class_weights failed (AttributeError: "),
        (Method("M", class_weights=lambda facts: 1 / 0), "(ZeroDivisionError: division by zero; "),
        (Method("M", group_weights=numbers(1, 2, np.inf)), "M: group_weights must give 3 finite numbers"),
        (Method("M", pair_weights=lambda facts: np.ones((3, 3))), "must give a DensePairWeights, as "),
        (Method("M", structure=Structure("s", (Bare(),))), "M: term bare lacks prepare, count, __call__()"),
        (Method("M", structure=Structure("s", (Worded(),))), "M: weight of term bare failed (ValueError: "),
    ],
)
def test_a_mistake_is_named(method, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check(method, FACTS)


def test_the_line_of_a_failure_is_named():
    with pytest.raises(UserError, match=r"test_method_checks\.py, line \d+\)$"):
        check(Method("M", class_weights=lambda facts: facts.nothing), FACTS)


@pytest.mark.parametrize("name", METHODS)
def test_the_packages_methods_pass(name):
    check(METHODS[name], FACTS)


@pytest.mark.parametrize("name", ["", "a b", "x/y", "triplet", "softmax", "Entropy"])
def test_a_term_has_a_name_that_the_log_can_have(name):
    term = Bare()
    term.name = name
    with pytest.raises(ValueError, match="no term can be called"):
        Structure("s", (term,))


def test_the_methods_costs_combine_with_each_other_system():
    systems = "mutual_channel soft_mining two_levels dropping bilinear compact_bilinear pmg nts_net"
    for name in [*systems.split(), "spatial_transformer", "object_crop"]:
        ours = METHODS[f"cdml_{name}"]
        assert ours.structure == METHODS[name].structure != METHODS["cdml"].structure, name
        same = {"structure": ours.structure, "title": ours.title}
        assert ours == dataclasses.replace(METHODS["cdml"], **same), name
