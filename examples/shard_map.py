"""Cost-sensitive deep metric learning under jax.shard_map: one batch over a mesh of devices.

    python examples/shard_map.py

As pmap.py, with the axis name of a mesh. Parameters stay whole; the result is that of linen_jit.py, to
rounding.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split, whole = PartitionSpec("data"), PartitionSpec()
    model, optimizer = Network(), optax.sgd(0.02, momentum=0.9)
    parameters = model.init(jax.random.key(0), images[:1])
    counts = confusion.init(toy.CLASSES, jnp.float32)
    # Placed on the mesh as the step's results are: placed otherwise, the step is traced again.
    parameters, optimizer_state, counts = jax.device_put(
        (parameters, optimizer.init(parameters), counts), NamedSharding(mesh, whole)
    )
    traces = []

    def loss_of(parameters, images, labels, class_weights, pair_weights, key):
        logits, embeddings = model.apply(parameters, images)
        softmax = weighted_softmax_cross_entropy(logits, labels, class_weights)
        triplets, valid = confusion_triplet_loss(
            key, embeddings, labels, pair_weights, num_triplets=NUM_TRIPLETS, axis_name="data"
        )
        real = jnp.ones(labels.shape, bool)
        loss = masked_mean(softmax, real, axis_name="data") + TRIPLET_WEIGHT * masked_mean(triplets, valid)
        return loss, logits

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(whole, whole, whole, split, split, whole, whole, whole),
        out_specs=whole,
    )
    def step(parameters, optimizer_state, counts, images, labels, class_weights, pair_weights, key):
        traces.append("step")  # runs when the step is traced, not when it is called
        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, images, labels, class_weights, pair_weights, key
        )
        gradients = jax.lax.pmean(gradients, "data")
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
        # The batch's own counts cross the devices, then join those that every device has already.
        added = confusion.update(jnp.zeros_like(counts), labels, jax.nn.softmax(logits))
        counts = counts + confusion.reduce(added, "data")
        return optax.apply_updates(parameters, updates), optimizer_state, counts, loss

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
    jax.config.update("jax_num_cpu_devices", 4)  # without a GPU or TPU: four simulated devices
    print(toy.describe(main()))
