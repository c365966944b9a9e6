"""What tables compare: a method is a file here and a line of `METHODS`, or a value in your configuration."""

from cdml_jax.methods import cdml, controls
from cdml_jax.methods.cdml import PAPER
from cdml_jax.methods.facts import Facts, by_confusion, by_error_rate, ones, rates, uniform
from cdml_jax.methods.method import Method

__all__ = ["METHODS", "PAPER", "Facts", "Method", "by_confusion", "by_error_rate", "ones", "rates", "uniform"]

METHODS: dict[str, Method] = {
    **cdml.METHODS,
    **controls.METHODS,
}
