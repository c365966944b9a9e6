"""Linear and cosine classifiers on pooled features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models import Spec
from cdml_jax.models.heads import Heads


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def heads(**options):
    return Heads(5, Spec(num_classes=4, embedding_size=3, **options), rngs=nnx.Rngs(1))


def test_cosine_logits_are_the_scaled_cosines(features):
    cosine = heads(classifier="cosine", cosine_scale=7.0)
    kernel = np.asarray(cosine.classifier.kernel[...], np.float64)
    expected = features.astype(np.float64) @ kernel
    expected /= np.linalg.norm(features, axis=1, keepdims=True) * np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(cosine(features).logits, 7 * expected, atol=1e-5)


def test_lengths_of_features_and_columns_do_not_matter(features):
    cosine = heads(classifier="cosine")
    before = cosine(features).logits
    cosine.classifier.kernel[...] *= jnp.array([1.0, 3.0, 0.2, 9.0])
    np.testing.assert_allclose(cosine(5 * features).logits, before, atol=1e-4)
    assert cosine.classifier.bias is None


def test_a_linear_classifier_is_an_affine_map(features):
    linear = heads()
    kernel, bias = (np.asarray(part[...]) for part in (linear.classifier.kernel, linear.classifier.bias))
    np.testing.assert_allclose(linear(features).logits, features @ kernel + bias, atol=1e-5)


def test_features_of_length_nought_have_finite_gradients():
    cosine = heads(classifier="cosine")
    gradient = jax.grad(lambda features: cosine(features).logits[:, 0].sum())(jnp.zeros((2, 5)))
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"classifier": "angular"}, "model.classifier: 'angular' is unknown; choose linear or cosine"),
        ({"cosine_scale": 0.0}, "model.cosine_scale: 0.0 must be positive"),
        ({"cosine_scale": float("nan")}, "model.cosine_scale: nan must be positive"),
    ],
)
def test_what_cannot_be_is_refused(option, words):
    with pytest.raises(UserError, match=words):
        Spec(num_classes=2, **option)
