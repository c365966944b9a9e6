"""Cost-sensitive deep metric learning in a Flax NNX loop, under nnx.jit.

    python examples/nnx_jit.py

As linen_jit.py, with a stateful module and `nnx.Optimizer`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy
from flax import nnx

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


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(toy.SIZE, 32, rngs=rngs)
        self.classifier = nnx.Linear(32, toy.CLASSES, rngs=rngs)
        self.projection = nnx.Linear(32, 8, use_bias=False, rngs=rngs)

    def __call__(self, images):
        features = nnx.relu(self.hidden(images))
        return self.classifier(features), toy.l2_normalize(self.projection(features))


def main(epochs: int = 5) -> toy.Result:
    images, labels = toy.clusters()
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.02, momentum=0.9), wrt=nnx.Param)
    traces = []

    @nnx.jit
    def step(model, optimizer, counts, images, labels, class_weights, pair_weights, key):
        traces.append("step")  # runs when the step is traced, not when it is called

        def loss_of(model):
            logits, embeddings = model(images)
            softmax = weighted_softmax_cross_entropy(logits, labels, class_weights)
            triplets, valid = confusion_triplet_loss(
                key, embeddings, labels, pair_weights, num_triplets=NUM_TRIPLETS
            )
            return softmax.mean() + TRIPLET_WEIGHT * masked_mean(triplets, valid), logits

        (loss, logits), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model)
        optimizer.update(model, gradients)
        return confusion.update(counts, labels, jax.nn.softmax(logits)), loss

    counts = confusion.init(toy.CLASSES, jnp.float32)
    losses = []
    for epoch in range(epochs):
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
        shares = expected_class_shares(labels, rates, pair_weights, **composition)
        step_weights = class_weights * jnp.float32(composition_correction(labels, shares))

        counts = 0.5 * counts
        of_epoch = []
        for number, rows in enumerate(order):
            key = jax.random.fold_in(jax.random.key(1), epoch * len(order) + number)
            counts, loss = step(
                model, optimizer, counts, images[rows], labels[rows], step_weights, pair_weights, key
            )
            of_epoch.append(loss)
        losses.append(float(np.mean(of_epoch)))
    assert len(traces) == 1, traces
    parameters = jax.device_get(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    return toy.Result(losses, len(traces), np.asarray(class_weights), np.asarray(pair_weights), parameters)


if __name__ == "__main__":
    print(toy.describe(main()))
