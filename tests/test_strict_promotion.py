"""No function of the core lets JAX convert a dtype in silence: all of them run under strict promotion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cdml_jax
from cdml_jax import confusion, losses
from cdml_jax.retrieval import descriptors, encodings

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, -1], np.int32)
WHERE = np.arange(8) < 7
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(4), 8).astype(np.float32)
HARD = confusion.update(confusion.init(4), LABELS, PROBABILITIES.argmax(axis=1), where=WHERE)
SOFT = confusion.update(confusion.init(4, jnp.float32), LABELS, PROBABILITIES, where=WHERE)
TOP = confusion.update(confusion.init_top(4, 2), LABELS, PROBABILITIES.argmax(axis=1), where=WHERE)
SOFT_TOP = confusion.update(confusion.init_top(4, 2, jnp.float32), LABELS, PROBABILITIES, where=WHERE)
PAIRS = confusion.pair_weights(SOFT)
EMBEDDINGS = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
ALL_COUNTS = {"hard": HARD, "soft": SOFT, "top": TOP, "soft top": SOFT_TOP}


@pytest.fixture(autouse=True, params=["float32", "float64"])
def strict(request):
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(request.param == "float64"):
        yield


@pytest.mark.parametrize("counts", ALL_COUNTS.values(), ids=ALL_COUNTS)
def test_counts_and_what_becomes_of_them(counts):
    probabilities = counts is SOFT or counts is SOFT_TOP
    predictions = PROBABILITIES if probabilities else PROBABILITIES.argmax(axis=1).astype(np.int32)
    for labels in (LABELS, LABELS.astype(np.int8), LABELS.astype(np.int64)):
        confusion.update(counts, labels, predictions, where=WHERE)
    for mode in ("rate", "one_plus_rate"):
        for smoothing in (1, 1.0, np.float32(1), jnp.float32(1)):
            confusion.class_weights(counts, mode=mode, beta=0.5, smoothing=smoothing)
            pairs = confusion.pair_weights(counts, smoothing=smoothing)
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), counts)
    jax.vmap(lambda one: confusion.reduce(one, "data"), axis_name="data")(stacked)
    cdml_jax.sample_triplets(jax.random.key(0), LABELS, pairs, num_triplets=16, where=WHERE)


def test_the_quota():
    for number in (8, jnp.int32(8)):
        confusion.triplet_quota(PAIRS, number)


def test_the_losses():
    logits, weights = PROBABILITIES, np.ones(4, np.float32)
    cross_entropy = losses.weighted_softmax_cross_entropy(
        logits, LABELS, weights, label_smoothing=0.1, where=WHERE
    )
    losses.confusion_weighted_logits(logits, LABELS, PAIRS, beta=0.5)
    losses.masked_mean(cross_entropy, WHERE)
    losses.confusion_triplet_loss(jax.random.key(0), EMBEDDINGS, LABELS, PAIRS, num_triplets=16, where=WHERE)


@pytest.mark.parametrize("counts", ALL_COUNTS.values(), ids=ALL_COUNTS)
def test_a_plan(counts):
    labels = np.repeat(np.arange(4), 3)
    weights, pairs = confusion.class_weights(counts), confusion.pair_weights(counts)
    options = {"batch_size": 6, "composed": 0.7, "images_per_class": 2, "classes_per_group": 2}
    cdml_jax.plan_epoch(0, 1, labels, weights, pairs, **options)
    shares = cdml_jax.expected_class_shares(labels, weights, pairs, **options)
    cdml_jax.composition_correction(labels, shares)


def test_descriptors_and_encodings():
    maps = np.random.default_rng(2).gamma(0.5, size=(2, 3, 4, 5)).astype(np.float32)
    mixture = encodings.Mixture(*(np.full(shape, 0.5) for shape in ((2,), (2, 5), (2, 5))))

    @jax.jit
    def everything(maps, where):
        sums = descriptors.descriptor_sums(maps, where=where)
        descriptors.indicator_maps(maps, np.zeros(5), np.ones(5))
        positions = descriptors.selected_positions(maps)
        encodings.vlad(maps, positions, np.eye(2, 5))
        encodings.fisher_vector(maps, positions, mixture)
        return descriptors.selective_descriptors(maps, maps[:, ::2]), sums

    found, sums = everything(maps, np.array([True, False]))
    assert found.dtype == sums.products.dtype == jnp.float32
