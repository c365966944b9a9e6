"""Cost-sensitive deep metric learning in a Flax Linen loop, under jax.jit.

    python examples/linen_jit.py

Each epoch's predictions become the next epoch's weights. The weights are arguments of the step, of
unchanged shape, so the step is compiled once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy
from flax import linen as nn

from cdml_jax import (
    confusion,
    confusion_triplet_loss,
    masked_mean,
    plan_epoch,
    weighted_softmax_cross_entropy,
)
from cdml_jax.sampling import composition_correction, expected_class_shares

TRIPLET_WEIGHT = 0.3
NUM_TRIPLETS = 4 * toy.BATCH


class Network(nn.Module):
    @nn.compact
    def __call__(self, images):
        features = nn.relu(nn.Dense(32)(images))
        return nn.Dense(toy.CLASSES)(features), toy.l2_normalize(nn.Dense(8, use_bias=False)(features))


def main(epochs: int = 5) -> toy.Result:
    images, labels = toy.clusters()
    model, optimizer = Network(), optax.sgd(0.02, momentum=0.9)
    parameters = model.init(jax.random.key(0), images[:1])
    optimizer_state = optimizer.init(parameters)
    traces = []

    def loss_of(parameters, images, labels, class_weights, pair_weights, key):
        logits, embeddings = model.apply(parameters, images)
        softmax = weighted_softmax_cross_entropy(logits, labels, class_weights)
        triplets, valid = confusion_triplet_loss(
            key, embeddings, labels, pair_weights, num_triplets=NUM_TRIPLETS
        )
        return softmax.mean() + TRIPLET_WEIGHT * masked_mean(triplets, valid), logits

    @jax.jit
    def step(parameters, optimizer_state, counts, images, labels, class_weights, pair_weights, key):
        traces.append("step")  # runs when the step is traced, not when it is called
        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, images, labels, class_weights, pair_weights, key
        )
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
        counts = confusion.update(counts, labels, jax.nn.softmax(logits))
        return optax.apply_updates(parameters, updates), optimizer_state, counts, loss

    counts = confusion.init(toy.CLASSES, jnp.float32)
    losses = []
    for epoch in range(epochs):
        # Before the first epoch nothing is confused: weights of 1, uniform pairs, plain shuffling.
        class_weights = confusion.class_weights(counts, mode="one_plus_rate")
        pair_weights = confusion.pair_weights(counts)
        rates = confusion.class_weights(counts, normalize=False)
        composition = {
            "batch_size": toy.BATCH,
            "composed": 0.5 if epoch else 0.0,
            "images_per_class": 8,
            "classes_per_group": 2,
        }
        order = plan_epoch(0, epoch, labels, rates, pair_weights, **composition)
        # Composed batches show hard classes more often; the correction keeps that from weighting them twice.
        shares = expected_class_shares(labels, rates, pair_weights, **composition)
        step_weights = class_weights * jnp.float32(composition_correction(labels, shares))

        counts = 0.5 * counts  # earlier epochs fade
        of_epoch = []
        for number, rows in enumerate(order):
            key = jax.random.fold_in(jax.random.key(1), epoch * len(order) + number)
            parameters, optimizer_state, counts, loss = step(
                parameters,
                optimizer_state,
                counts,
                images[rows],
                labels[rows],
                step_weights,
                pair_weights,
                key,
            )
            of_epoch.append(loss)
        losses.append(float(np.mean(of_epoch)))
    assert len(traces) == 1, traces
    return toy.Result(
        losses, len(traces), np.asarray(class_weights), np.asarray(pair_weights), jax.device_get(parameters)
    )


if __name__ == "__main__":
    print(toy.describe(main()))
