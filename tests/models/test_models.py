"""Networks: shapes, dtypes, normalised embeddings, gradients; and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import built

from cdml_jax.models import NETWORKS, Spec, Variant, build, resnet
from cdml_jax.training.state import split_model


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 20, 24, 3)), jnp.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outputs_are_logits_and_normalised_embeddings(images, dtype):
    model = built("small_resnet", Spec(num_classes=7, embedding_size=9, dtype=dtype))
    logits, embeddings = nnx.jit(type(model).__call__, static_argnames="train")(model, images, train=False)
    assert logits.shape == (4, 7)
    assert embeddings.shape == (4, 9)
    assert logits.dtype == embeddings.dtype == jnp.float32
    np.testing.assert_allclose((np.asarray(embeddings) ** 2).sum(1), 1, rtol=1e-5)


# Published counts for 1000 classes, by torchvision and timm; DINOv2's are without head, with a mask token.
PARAMETERS = {
    "mobilenet_v2": 3_504_872,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "googlenet": 6_624_904,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "vit_small_patch14_dinov2": 22_056_576 - 384 + 385_000,
    "vit_base_patch14_dinov2": 86_580_480 - 768 + 769_000,
    "vit_small_patch16": 22_050_664,
    "vit_base_patch16": 86_567_656,
}


FAMILY_MEMBERS = ("mobilenet_v2", "efficientnet_lite0", "resnet18", "vgg16_bn", "vit_small_patch14_dinov2")


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_published_number_of_parameters(name):
    def parameters():
        model = build(name, Spec(num_classes=1000, embedding_from="features"), rngs=nnx.Rngs(0))
        return split_model(model)[1]

    tree = jax.eval_shape(parameters)
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == PARAMETERS[name]


def shapes(name, dtype):
    """Outputs, parameters and statistics after a step: shapes and dtypes, nothing is computed."""

    def run():
        model = build(name, Spec(num_classes=7, embedding_size=9, dtype=dtype), rngs=nnx.Rngs(0))
        outputs = model(jnp.zeros((2, 112, 84, 3), jnp.promote_types(dtype, "float32")), train=True)
        return outputs, split_model(model)[1:]

    return jax.eval_shape(run)


@pytest.mark.parametrize("name", FAMILY_MEMBERS)
def test_bfloat16_is_for_activations_alone(name):
    outputs, after = shapes(name, "bfloat16")
    assert outputs.logits.shape == (2, 7)
    assert outputs.embeddings.shape == (2, 9)
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, after))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["small_resnet", *FAMILY_MEMBERS])
def test_networks_compute_in_float64(name, float64):
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(name, "float64"))} == {jnp.dtype("float64")}


@pytest.fixture
def small(monkeypatch):
    """Graphs of a residual network of three blocks by options, and its parameters, far from zero."""
    monkeypatch.setitem(resnet.DEPTHS, 8, (1, 1, 1))
    monkeypatch.setitem(NETWORKS, "resnet8", Variant(resnet.ResNet, {"depth": 8}))

    def split(**options):
        spec = Spec(num_classes=3, **options)
        return split_model(nnx.eval_shape(lambda: build("resnet8", spec, rngs=nnx.Rngs(0))))

    rng = np.random.default_rng(0)
    trees = jax.tree.map(lambda x: rng.uniform(0.02, 0.1, x.shape).astype(np.float32), split()[1:])
    images = rng.uniform(-1, 1, (4, 40, 32, 3)).astype(np.float32)
    return lambda **options: split(**options)[0], trees, images


def test_rematerialisation_changes_neither_gradients_nor_statistics(small):
    graph_of, (parameters, statistics), images = small

    def gradients(remat):
        graph = graph_of(remat=remat)

        def loss(parameters, statistics, images):
            model = nnx.merge(graph, parameters, statistics)
            outputs = model(images, train=True)
            loss = (outputs.logits[:, 1] * outputs.embeddings[:, 0]).sum()
            return loss, nnx.as_pure(nnx.state(model, nnx.BatchStat))

        traced = jax.jit(jax.grad(loss, has_aux=True)).trace(parameters, statistics, images)
        assert ("remat" in str(traced.jaxpr)) == remat
        return traced.lower().compile()(parameters, statistics, images)

    for ours, theirs in zip(jax.tree.leaves(gradients(True)), jax.tree.leaves(gradients(False)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_frozen_batch_norm_trains_on_running_statistics_and_keeps_them(small):
    graph_of, trees, images = small

    @functools.partial(jax.jit, static_argnames=("graph", "train"))
    def run(trees, images, graph, train):
        model = nnx.merge(graph, *trees)
        return model(images, train=train).logits, nnx.as_pure(nnx.state(model, nnx.BatchStat))

    frozen, kept = run(trees, images, graph_of(freeze_batch_norm=True), True)
    free, moved = run(trees, images, graph_of(), True)
    evaluated, _ = run(trees, images, graph_of(), False)
    np.testing.assert_allclose(frozen, evaluated, rtol=1e-4)
    assert not np.allclose(free, evaluated, rtol=1e-2)
    before, kept, moved = (jax.tree.leaves(tree) for tree in (trees[1], kept, moved))
    assert all(np.array_equal(a, b) for a, b in zip(before, kept, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(before, moved, strict=True))


def test_embeddings_may_be_the_features_themselves(images):
    model = nnx.eval_shape(
        lambda: build("small_resnet", Spec(num_classes=7, embedding_from="features"), rngs=nnx.Rngs(0))
    )
    assert nnx.eval_shape(lambda model: model(images, train=False), model).embeddings.shape == (4, 128)


def test_training_moves_the_running_statistics_and_evaluation_does_not(images):
    model = built("small_resnet", Spec(num_classes=7, embedding_size=9))
    run = nnx.jit(type(model).__call__, static_argnames="train")
    before = np.asarray(model.stem_norm.mean[...])
    run(model, images, train=False)
    assert np.array_equal(before, model.stem_norm.mean[...])
    run(model, images, train=True)
    assert not np.array_equal(before, model.stem_norm.mean[...])


def test_an_embedding_of_zero_features_has_finite_gradients():
    from cdml_jax.models.heads import l2_normalize

    gradient = jax.grad(lambda x: l2_normalize(x).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(gradient).all()


def program_of(name, **options):
    """What the network computes in training, as text and constants."""
    spec = Spec(num_classes=7, embedding_size=9, **options)
    model = nnx.eval_shape(lambda: build(name, spec, rngs=nnx.Rngs(0)))
    graph, *trees = split_model(model)

    def run(trees, images):
        model = nnx.merge(graph, *trees)
        return model(images, train=True), nnx.as_pure(nnx.state(model, nnx.BatchStat))

    closed = jax.make_jaxpr(run)(trees, jax.ShapeDtypeStruct((2, 56, 56, 3), np.float32))
    return str(closed.jaxpr), [np.asarray(constant).tolist() for constant in closed.consts]


@pytest.mark.parametrize("name", ["small_resnet", "googlenet", *FAMILY_MEMBERS])
def test_every_option_that_a_network_names_changes_what_it_computes(name):
    plain = program_of(name)
    for option in NETWORKS[name].family.options:
        if option == "style":
            assert program_of(name, style="torchvision") != program_of(name, style="tensorflow")
        else:
            assert program_of(name, **{option: True}) != plain


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("small_resnt", {}, "choose one of efficientnet_lite0, "),
        ("mobilenet_v2", {"style": "caffe"}, "choose torchvision or tensorflow"),
        ("small_resnet", {"remat": True}, "small_resnet has no such option"),
        ("small_resnet", {"dtype": "float16"}, "choose float32, bfloat16 or float64"),
        ("small_resnet", {"embedding_from": "logits"}, "choose projection or features"),
    ],
)
def test_what_is_unknown_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, Spec(num_classes=2, **options), rngs=nnx.Rngs(0))
