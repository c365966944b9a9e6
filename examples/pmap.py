"""Cost-sensitive deep metric learning in a pmap loop: one batch over all local devices.

    python examples/pmap.py

Triplets, losses and counts are those of the whole batch, whatever the number of devices. The gradients of
the parameters are averaged by `pmean`, as in any pmap loop. The result is that of linen_jit.py, to rounding.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy
from flax import jax_utils
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
NUM_TRIPLETS = 4 * toy.BATCH  # of the whole batch, not of each device


class Network(nn.Module):
    @nn.compact
    def __call__(self, images):
        features = nn.relu(nn.Dense(32)(images))
        return nn.Dense(toy.CLASSES)(features), toy.l2_normalize(nn.Dense(8, use_bias=False)(features))


def main(epochs: int = 5) -> toy.Result:
    images, labels = toy.clusters()
    devices = jax.local_device_count()
    model, optimizer = Network(), optax.sgd(0.02, momentum=0.9)
    parameters = model.init(jax.random.key(0), images[:1])

    # The axis name is the step's: copies placed under another are traced again.
    on_every_device = functools.partial(jax_utils.replicate, axis_name="data")

    def over_devices(rows):
        return rows.reshape(devices, -1, *rows.shape[1:])

    parameters, optimizer_state = on_every_device((parameters, optimizer.init(parameters)))
    traces = []

    def loss_of(parameters, images, labels, class_weights, pair_weights, key):
        logits, embeddings = model.apply(parameters, images)
        softmax = weighted_softmax_cross_entropy(logits, labels, class_weights)
        # The triplets come back whole and equal on every device; the softmax rows are each device's own.
        triplets, valid = confusion_triplet_loss(
            key, embeddings, labels, pair_weights, num_triplets=NUM_TRIPLETS, axis_name="data"
        )
        real = jnp.ones(labels.shape, bool)  # in evaluation or with padding: which rows count
        loss = masked_mean(softmax, real, axis_name="data") + TRIPLET_WEIGHT * masked_mean(triplets, valid)
        return loss, logits

    # The weights and the key are the same on every device: None is their axis.
    @functools.partial(jax.pmap, axis_name="data", in_axes=(0, 0, 0, 0, 0, None, None, None))
    def step(parameters, optimizer_state, counts, images, labels, class_weights, pair_weights, key):
        traces.append("step")  # runs when the step is traced, not when it is called
        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, images, labels, class_weights, pair_weights, key
        )
        gradients = jax.lax.pmean(gradients, "data")
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
        counts = confusion.update(counts, labels, jax.nn.softmax(logits))
        return optax.apply_updates(parameters, updates), optimizer_state, counts, loss

    sum_counts = jax.pmap(lambda counts: confusion.reduce(counts, "data"), axis_name="data")

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

        # Each device counts its own rows; they are summed once, when the epoch ends.
        on_devices = on_every_device(confusion.init(toy.CLASSES, jnp.float32))
        of_epoch = []
        for number, rows in enumerate(order):
            key = jax.random.fold_in(jax.random.key(1), epoch * len(order) + number)
            parameters, optimizer_state, on_devices, loss = step(
                parameters,
                optimizer_state,
                on_devices,
                over_devices(images[rows]),
                over_devices(labels[rows]),
                step_weights,
                pair_weights,
                key,
            )
            of_epoch.append(loss[0])
        counts = 0.5 * counts + np.asarray(sum_counts(on_devices)[0])
        losses.append(float(np.mean(of_epoch)))
    assert len(traces) == 1, traces
    parameters = jax.device_get(jax.tree.map(lambda leaf: leaf[0], parameters))
    return toy.Result(losses, len(traces), np.asarray(class_weights), np.asarray(pair_weights), parameters)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)  # without a GPU or TPU: four simulated devices
    print(toy.describe(main()))
