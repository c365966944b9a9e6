"""Class weights from numbers of images, against definitions written out."""

import jax.numpy as jnp
import numpy as np
import pytest

from cdml_jax.methods.class_sizes import class_balanced, inverse_frequency


def test_inverse_frequency_has_mean_one_over_the_classes_present():
    weights = np.asarray(inverse_frequency(jnp.array([2, 0, 6, 12])))
    np.testing.assert_allclose(
        weights * [2, 0, 6, 12], [weights[0] * 2, 0, weights[0] * 2, weights[0] * 2], 1e-6
    )
    assert weights.sum() == pytest.approx(3)


@pytest.mark.parametrize("overlap", [0.0, 0.9, 0.9999])
def test_class_balanced_is_the_inverse_effective_number(overlap):
    images = np.array([2, 0, 7, 400])
    effective = np.array([sum(overlap**k for k in range(n)) for n in images])
    inverse = np.where(images > 0, 1 / np.maximum(effective, 1e-9), 0)
    weights = np.asarray(class_balanced(jnp.asarray(images), overlap=overlap))
    np.testing.assert_allclose(weights, inverse / inverse.sum() * 3, rtol=1e-4)
