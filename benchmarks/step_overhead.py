"""What being cost-sensitive costs: the CDML step over a plain softmax step, on the same network and batch.

    python benchmarks/step_overhead.py [--config=demo] [--repeats=15] [--json=FILE]

Both steps are compiled; they run in turn, several at a time, in one process, each waiting for its result. The
plain step is what one would write without this library: mean cross-entropy, gradients, the same optimiser and
batch norm; no counts, no triplets, no metrics but the loss.
"""

from __future__ import annotations

import argparse
import functools
import platform
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx
from side_by_side import keep, own_devices

from cdml_jax.configuration.load import load_arguments
from cdml_jax.configuration.settings import Settings, changed
from cdml_jax.confusion import DenseConfusion
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods import METHODS
from cdml_jax.models.pixels import normalize_images
from cdml_jax.training.epoch import plan_of_epoch, statistics_of
from cdml_jax.training.optimizer import make_optimizer
from cdml_jax.training.program import Program
from cdml_jax.training.state import Costs


def noise(images: int, classes: int, size: int) -> ArraySource:
    """Random images of random classes: the time of a step does not depend on what they show."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    return ArraySource(pixels, rng.integers(0, classes, images))


def plain_step(state, batch, *, graph, optimizer):
    """Parameters, statistics and optimiser after a step on the mean cross-entropy."""
    parameters, batch_statistics, optimizer_state = state

    def loss_of(parameters):
        model = nnx.merge(graph, parameters, batch_statistics)
        logits, _ = model(normalize_images(batch["image"]), train=True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
        return loss, nnx.as_pure(nnx.state(model, nnx.BatchStat))

    (loss, new_statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
    return (optax.apply_updates(parameters, updates), new_statistics, optimizer_state), loss


def prepared(config: Settings, classes: int, method: str = "cdml") -> tuple[Program, dict, Costs]:
    """A program for noise; on the device a batch, and the costs of a method's first epoch behind its warm-up.

    The device is one accelerator, or the processor, divided as the configuration has it.
    """
    mesh_lib.divide_processor(config.mesh.cpu_devices, config.batch_size)
    images = noise(4 * config.batch_size, classes, config.image.image_size)
    names = Classes(tuple(map(str, range(classes))))
    dataset, structure = Dataset("noise", names, {"train": images}), METHODS[method].structure
    program = Program(config, dataset, own_devices(), structure=structure)
    counts = DenseConfusion(np.random.default_rng(1).random((classes, classes)).astype(np.float32))
    facts = program.facts(statistics_of(counts, config.confusion), counts)
    costs, order = plan_of_epoch(
        METHODS[method], config, images.labels, facts, seed=0, epoch=config.warmup_epochs
    )
    rows = order[0]
    batch = mesh_lib.put_batch(
        program.mesh,
        {
            "image": np.stack([images.image(int(i)) for i in rows]),
            "label": images.labels[rows],
            "mask": np.ones(rows.size, bool),
            "index": rows.astype(np.int32),
        },
    )
    return program, batch, program.put_costs(costs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="demo")
    parser.add_argument("--classes", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="in each repeat")
    parser.add_argument("--json", type=Path)
    options, overrides = parser.parse_known_args()
    loaded = load_arguments([f"--config={options.config}", *overrides])
    config = changed(loaded.settings, {"model.weights": ""})
    program, batch, costs = prepared(config, options.classes)
    state = program.initial_state(0)
    optimizer = make_optimizer(config.optimizer, program.schedule, steps_per_epoch=program.steps_per_epoch)
    plain = jax.jit(functools.partial(plain_step, graph=program.graph, optimizer=optimizer), donate_argnums=0)
    plain_state = jax.tree.map(
        lambda a: a.copy(), (state.parameters, state.batch_statistics, state.optimizer)
    )
    plain_state, _ = plain(plain_state, batch)
    state = program.step(state, batch, costs)
    jax.block_until_ready((plain_state, state))
    times: dict[str, list[float]] = {"plain": [], "cdml": []}
    for _ in range(options.repeats):
        began = time.perf_counter()
        for _ in range(options.steps):
            plain_state, _ = plain(plain_state, batch)
        jax.block_until_ready(plain_state)
        between = time.perf_counter()
        for _ in range(options.steps):
            state = program.step(state, batch, costs)
        jax.block_until_ready(state)
        times["plain"].append((between - began) / options.steps)
        times["cdml"].append((time.perf_counter() - between) / options.steps)
    ratios = [ours / plain for ours, plain in zip(times["cdml"], times["plain"])]
    result = {
        "question": "CDML step over plain softmax step",
        "network": config.model.name,
        "batch_size": config.batch_size,
        "image_size": config.image.image_size,
        "classes": options.classes,
        "triplets": config.objective.triplets_per_image * config.batch_size,
        "device": jax.devices()[0].device_kind,
        "devices": program.mesh.size,
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "plain_ms": round(1e3 * statistics.median(times["plain"]), 3),
        "cdml_ms": round(1e3 * statistics.median(times["cdml"]), 3),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)[::2]],
        "repeats": options.repeats,
    }
    print(
        f"plain {result['plain_ms']} ms, cdml {result['cdml_ms']} ms, ratio {result['ratio']} "
        f"(quartiles {result['ratio_quartiles']}, {result['device']}, jax {result['jax']})"
    )
    keep(result, options.json)


if __name__ == "__main__":
    main()
