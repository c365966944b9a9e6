"""A network cut before any block computes what it computes whole, and knows which parameters lie in front."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.interpreters import partial_eval
from networks import built

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Spec, build
from cdml_jax.system.trees import named_leaves

SIDE = {"small_resnet": 32}


@pytest.fixture(scope="module")
def network():
    return built("small_resnet", Spec(num_classes=3, embedding_size=4))


@pytest.mark.parametrize("frozen", ["0", "2", "4", "backbone"])
def test_front_and_back_are_the_whole(network, frozen):
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)), jnp.float32)
    cut = network.cut(frozen)
    halves = network.back(network.front(images, cut, train=False), cut, train=False)
    whole = network(images, train=False)
    np.testing.assert_array_equal(halves.logits, whole.logits)
    np.testing.assert_array_equal(halves.embeddings, whole.embeddings)


@pytest.mark.parametrize("frozen", ["5", "-1", "all"])
def test_a_cut_that_the_network_does_not_have_is_refused(network, frozen):
    with pytest.raises(UserError, match=r"model\.frozen: .* up to 4"):
        network.cut(frozen)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_names_in_front_are_those_that_the_back_does_not_use(name):
    model = nnx.eval_shape(lambda: build(name, Spec(num_classes=3, embedding_size=4), rngs=nnx.Rngs(0)))
    graph, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    parameters, statistics = nnx.as_pure(parameters), nnx.as_pure(statistics)
    names = [key for key, _ in named_leaves(parameters)]
    side = SIDE.get(name, 112)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    for cut in (0, 1, len(model.blocks), len(model.blocks) + 1):

        def front(parameters, images, cut=cut):
            return nnx.merge(graph, parameters, statistics_of(statistics)).front(images, cut, train=False)

        def back(parameters, x, cut=cut):
            return nnx.merge(graph, parameters, statistics_of(statistics)).back(x, cut, train=False)

        x = jax.eval_shape(front, parameters, images)
        closed = jax.make_jaxpr(back)(parameters, x)
        _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
        unused = {key for key, use in zip(names, used) if not use}
        begins = model.front_names(cut)
        assert unused == {k for k in names if any(k == b or k.startswith(f"{b}.") for b in begins)}


def statistics_of(shapes):
    return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)
