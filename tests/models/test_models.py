"""Networks: shapes, dtypes, normalised embeddings, gradients; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cdml_jax.models import build


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 20, 24, 3)), jnp.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outputs_are_logits_and_normalised_embeddings(images, dtype):
    model = build("small_resnet", num_classes=7, embedding_size=9, dtype=dtype, rngs=nnx.Rngs(0))
    logits, embeddings = model(images, train=False)
    assert logits.shape == (4, 7)
    assert embeddings.shape == (4, 9)
    assert logits.dtype == embeddings.dtype == jnp.float32
    np.testing.assert_allclose((np.asarray(embeddings) ** 2).sum(1), 1, rtol=1e-5)


def test_float64_is_float64_throughout(images, float64):
    model = build("small_resnet", num_classes=7, embedding_size=9, dtype="float64", rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    outputs = model(images.astype(jnp.float64), train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves((nnx.as_pure(state), outputs))} == {jnp.dtype("float64")}


def test_embeddings_may_be_the_features_themselves(images):
    model = build("small_resnet", num_classes=7, embedding_from="features", rngs=nnx.Rngs(0))
    assert model(images, train=False).embeddings.shape == (4, 128)


def test_training_moves_the_running_statistics_and_evaluation_does_not(images):
    model = build("small_resnet", num_classes=7, rngs=nnx.Rngs(0))
    before = np.asarray(model.stem_norm.mean[...])
    model(images, train=False)
    assert np.array_equal(before, model.stem_norm.mean[...])
    model(images, train=True)
    assert not np.array_equal(before, model.stem_norm.mean[...])


def test_an_embedding_of_zero_features_has_finite_gradients():
    from cdml_jax.models.heads import l2_normalize

    gradient = jax.grad(lambda x: l2_normalize(x).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "small_resnt"}, "choose one of mobilenet_v2, "),
        ({"name": "mobilenet_v2", "style": "caffe"}, "choose torchvision or tensorflow"),
        ({"name": "small_resnet", "remat": True}, "small_resnet has no such option"),
        ({"name": "small_resnet", "dtype": "float16"}, "choose float32, bfloat16 or float64"),
        ({"name": "small_resnet", "embedding_from": "logits"}, "choose projection or features"),
    ],
)
def test_what_is_unknown_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(num_classes=2, rngs=nnx.Rngs(0), **arguments)
