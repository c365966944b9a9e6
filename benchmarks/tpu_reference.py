"""The step that ours is compared with on TPUs: ResNet-50 on ImageNet as Flax's own example trains it.

The example (google/flax, examples/imagenet) is described by its network, objective and optimiser, and written
here from that description: ResNet-50 with its stride in the 3 x 3 convolution, activations and batch norm in
bfloat16 over parameters and statistics in float32, mean cross-entropy without label smoothing, an L2 penalty
of the kernels in the loss, Nesterov momentum, a warm-up and a cosine; no loss scaling.

    step of (parameters, statistics, optimiser), (images (B, 224, 224, 3) bfloat16, labels (B,))
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cdml_jax.runs.memory import bytes_per_device

CLASSES, SIDE = 1_000, 224
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width and number of the blocks
MOMENTUM, WEIGHT_DECAY, EPSILON, KEPT = 0.9, 1e-4, 1e-5, 0.9
WARMUP_STEPS, STEPS, RATE = 5_000, 100_000, 0.1

Conv = functools.partial(linen.Conv, use_bias=False, dtype=jnp.bfloat16)


class Block(linen.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    width: int
    stride: int

    @linen.compact
    def __call__(self, x: jax.Array, norm: Any) -> jax.Array:
        strides, outputs = (self.stride, self.stride), 4 * self.width
        y = linen.relu(norm()(Conv(self.width, (1, 1))(x)))
        y = linen.relu(norm()(Conv(self.width, (3, 3), strides)(y)))
        y = norm(scale_init=linen.initializers.zeros)(Conv(outputs, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(Conv(outputs, (1, 1), strides)(x))
        return linen.relu(x + y)


class ResNet50(linen.Module):
    """Logits (B, classes) of images (B, height, width, 3)."""

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        norm = functools.partial(
            linen.BatchNorm,
            use_running_average=False,
            momentum=KEPT,
            epsilon=EPSILON,
            dtype=jnp.bfloat16,
        )
        x = Conv(STAGES[0][0], (7, 7), (2, 2), padding=[(3, 3), (3, 3)])(images)
        x = linen.max_pool(linen.relu(norm()(x)), (3, 3), (2, 2), padding="SAME")
        for stage, (width, number) in enumerate(STAGES):
            for block in range(number):
                x = Block(width, 2 if stage and not block else 1)(x, norm)
        return linen.Dense(CLASSES, dtype=jnp.bfloat16)(x.mean((1, 2)))


def _schedule(batch: int) -> optax.Schedule:
    rate = RATE * batch / 256
    return optax.warmup_cosine_decay_schedule(0.0, rate, WARMUP_STEPS, STEPS)


def _step(state: Any, batch: Any, optimizer: optax.GradientTransformation, schedule: optax.Schedule) -> Any:
    parameters, statistics, optimizer_state = state
    images, labels = batch

    def loss_of(parameters):
        variables = {"params": parameters, "batch_stats": statistics}
        logits, changed = ResNet50().apply(variables, images, mutable="batch_stats")
        loss = optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, CLASSES)).mean()
        kernels = (leaf for leaf in jax.tree.leaves(parameters) if leaf.ndim > 1)
        penalty = 0.5 * WEIGHT_DECAY * sum(jnp.square(kernel).sum() for kernel in kernels)
        return loss + penalty, (loss, logits, changed["batch_stats"])

    (_, (loss, logits, statistics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
    said = {
        "loss": loss,
        "accuracy": (logits.argmax(-1) == labels).mean(),
        "learning_rate": schedule(optax.tree.get(optimizer_state, "count")),
    }
    return (optax.apply_updates(parameters, updates), statistics, optimizer_state), said


def reference(devices: Any, rows: int) -> tuple[Any, tuple[Any, Any], dict[str, int]]:
    """The jitted step, the shapes of its arguments, and their bytes on a device by kind.

    Args:
      devices: over which the batch is split.
      rows: of each.
    """
    mesh, batch = Mesh(devices, ("data",)), rows * len(devices)
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    schedule = _schedule(batch)
    optimizer = optax.sgd(schedule, MOMENTUM, nesterov=True)

    def initial(key):
        variables = ResNet50().init(key, jnp.zeros((1, SIDE, SIDE, 3), jnp.bfloat16))
        return variables["params"], variables["batch_stats"], optimizer.init(variables["params"])

    def placed(tree, sharding):
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    state = placed(jax.eval_shape(initial, jax.random.key(0)), whole)
    images = jax.ShapeDtypeStruct((batch, SIDE, SIDE, 3), jnp.bfloat16, sharding=split)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=split)
    step = jax.jit(
        functools.partial(_step, optimizer=optimizer, schedule=schedule),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda leaf: leaf.sharding, state), whole),
    )
    kinds = dict(zip(("parameters", "statistics", "optimiser"), state)) | {"batch": (images, labels)}
    return step, (state, (images, labels)), {name: bytes_per_device(tree) for name, tree in kinds.items()}
