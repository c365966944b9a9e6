"""Averages that merge."""

import jax
import jax.numpy as jnp
import pytest

from cdml_jax.training.averages import average, compute, merge


def test_merged_averages_are_those_of_all_rows():
    """Unequal parts: a mean of means would be 2.5."""
    parts = [{"x": average(jnp.float32(2.0), 2)}, {"x": average(jnp.float32(12.0), 3)}]
    assert float(compute(jax.jit(merge)(*parts))["x"]) == pytest.approx(14 / 5)
