"""The shapes that annotations name are checked at every call while the tests run."""

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from cdml_jax import losses
from cdml_jax.confusion import draws


def test_a_wrong_shape_in_a_public_function_raises():
    logits, labels, weights = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), jnp.ones(3)
    losses.weighted_softmax_cross_entropy(logits, labels, weights, where=jnp.ones(4, bool))
    with pytest.raises(TypeCheckError, match="where"):
        losses.weighted_softmax_cross_entropy(logits, labels, weights, where=jnp.ones(5, bool))


def test_a_wrong_dtype_in_a_function_within_raises():
    with pytest.raises(TypeCheckError, match="bits"):
        draws.below(jnp.zeros(3, jnp.int32), jnp.int32(2))


def test_shapes_are_checked_while_a_function_is_traced():
    traced = jax.jit(lambda values, where: losses.masked_mean(values, where))
    with pytest.raises(TypeCheckError, match="where"):
        traced(jnp.zeros((3, 2)), jnp.ones((2, 3), bool))


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_test_can_leave_the_refusal_to_the_package():
    with pytest.raises(ValueError, match="differ"):
        losses.masked_mean(jnp.zeros(3), jnp.ones(2, bool))
