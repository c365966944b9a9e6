"""What large label spaces cost: counting, drawing and summing up, by classes, batch and counters.

    python benchmarks/label_spaces.py [--repeats=5] [--json=FILE]

Each part is the one of the training step (`cdml_jax/training/storage`), compiled alone and run on 8
devices that are simulated on this machine's processor. They share its cores, so times show how cost grows,
not what an accelerator takes. Bytes are those of each device. Labels and logits are random. Summing up is all
that follows the last step of an epoch; counters of `top` are then all in use, as after many images of each
class.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from side_by_side import keep

from cdml_jax.confusion.figures import mean_class_error
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.runs.memory import bytes_per_device
from cdml_jax.sampling import expected_class_shares, plan_epoch, sample_triplets
from cdml_jax.training.epoch import WATCHED_PAIRS
from cdml_jax.training.storage import Storage, make_storage

DEVICES = 8
TRIPLETS_PER_IMAGE = 4
# Storage, classes, batch, counters: one of them changes at a time.
CASES = (
    ("dense", 1_000, 256, 0),
    ("dense", 4_000, 256, 0),
    ("by_class", 1_000, 256, 0),
    ("by_class", 4_000, 256, 0),
    ("by_class", 10_000, 64, 0),
    ("by_class", 10_000, 256, 0),
    ("by_class", 10_000, 1024, 0),
    ("top", 1_000, 256, 32),
    ("top", 10_000, 64, 32),
    ("top", 10_000, 256, 8),
    ("top", 10_000, 256, 32),
    ("top", 10_000, 256, 128),
    ("top", 10_000, 1024, 32),
    ("top", 100_000, 256, 32),
    ("top", 300_000, 256, 32),
)


def _milliseconds(run: Any, repeats: int) -> float:
    """Median of the times of `run`, which waits for its result; the first is not counted."""
    return _both_milliseconds(run, repeats)[0]


def _both_milliseconds(run: Any, repeats: int) -> tuple[float, float]:
    """As `_milliseconds`, and of processor time, summed over the cores."""
    run()
    times = []
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        run()
        times.append((1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - used)))
    median, processor = (round(statistics.median(kind), 2) for kind in zip(*times))
    return median, processor


def _batch(storage: Storage, size: int) -> tuple[dict[str, jax.Array], jax.Array]:
    rng = np.random.default_rng(0)
    classes = storage.num_classes
    labels = (rng.integers(0, classes, size) // 4 * 4).astype(np.int32)
    batch = mesh_lib.put_batch(storage.mesh, {"label": labels, "mask": np.ones(size, bool)})
    logits = jax.jit(
        lambda key: jax.random.normal(key, (size, classes)), out_shardings=mesh_lib.split_rows(storage.mesh)
    )(jax.random.key(0))
    return batch, logits


def _in_use(storage: Storage, counts: Any) -> Any:
    """An epoch's counts; those of `top` with all K counters in use: on each device K of 2 K wrong answers."""
    if storage.name != "top":
        return counts
    places, classes, k = counts.values.shape
    rng = np.random.default_rng(1)
    first, step = (rng.integers(0, k, (places, classes, 1)) for _ in range(2))
    answers = first + (2 * step + 1) * np.arange(k)  # all different modulo 2 K, which is a power of two
    indices = (np.arange(classes)[:, None] + 1 + answers % (2 * k)) % classes
    values = rng.exponential(size=indices.shape).astype(counts.values.dtype)
    errors = 1.25 * values.sum(axis=2)
    filled = counts._replace(indices=indices.astype(np.int32), values=values, errors=errors, correct=errors)
    return jax.device_put(filled, storage.shardings())


def measure(kind: str, classes: int, size: int, k: int, repeats: int) -> dict[str, Any]:
    """Times and bytes of one case."""
    mesh = mesh_lib.make_mesh(size, devices=jax.devices()[:DEVICES])
    storage = make_storage(kind, classes, max(k, 1), mesh)
    batch, logits = _batch(storage, size)
    result: dict[str, Any] = {"storage": kind, "classes": classes, "batch": size, "k": k}
    counts: Any = None
    for form, dtype in (("hard", jnp.int32), ("soft", jnp.float32)):
        counts = jax.jit(lambda: storage.empty(dtype), out_shardings=storage.shardings())()  # noqa: B023
        add = (
            jax.jit(
                lambda c, b, x: storage.add(c, b, x, soft=form == "soft"),  # noqa: B023
                donate_argnums=0,
                out_shardings=storage.shardings(),
            )
            .lower(counts, batch, logits)
            .compile()
        )
        result[f"count_{form}_temporary_bytes"] = add.memory_analysis().temp_size_in_bytes
        held = [counts]

        def count():
            held[0] = jax.block_until_ready(add(held[0], batch, logits))  # noqa: B023

        result[f"count_{form}_ms"] = _milliseconds(count, repeats)
        counts = held[0]
    result["counts_bytes"] = bytes_per_device(counts)

    kept = storage.nothing().plus(storage.total(counts), decay=0.5)
    found = kept.statistics(smoothing=1.0, symmetric=False)
    pairs = storage.put_pairs(found.pairs)
    result["pair_weights_bytes"] = bytes_per_device(pairs)
    number = TRIPLETS_PER_IMAGE * size
    sample = functools.partial(sample_triplets, num_triplets=number)
    draw = jax.jit(lambda key, y, p: storage.draw(key[None], y[None], p, sample))
    whole = jax.device_put(batch["label"], mesh_lib.replicated(mesh))
    draw = draw.lower(jax.random.key(0), whole, pairs).compile()
    result["draw_temporary_bytes"] = draw.memory_analysis().temp_size_in_bytes
    key = jax.random.key(0)
    result["draw_ms"] = _milliseconds(lambda: jax.block_until_ready(draw(key, whole, pairs)), repeats)

    counts = _in_use(storage, counts)
    last = storage.nothing().plus(storage.total(counts), decay=0.5)

    def sum_up():
        total = storage.total(counts)
        mean_class_error(total.on_host())
        kept = last.plus(total, decay=0.5)
        found = kept.statistics(smoothing=1.0, symmetric=False)
        kept.class_weights_on_host(mode="rate", beta=1.0, smoothing=1.0, normalize=True)
        found.pairs.on_host().largest(WATCHED_PAIRS)
        jax.block_until_ready(storage.put_pairs(found.pairs))

    result["epoch_ms"], result["epoch_processor_ms"] = _both_milliseconds(sum_up, min(repeats, 2))
    found = last.statistics(smoothing=1.0, symmetric=False)
    host = found.pairs.on_host()
    labels = np.repeat(np.arange(classes), 2)
    composition = {"batch_size": size, "composed": 0.5, "images_per_class": 2, "classes_per_group": 4}
    began, used = time.perf_counter(), time.process_time()
    expected_class_shares(labels, found.rates, host, **composition)
    plan_epoch(0, 1, labels, found.rates, host, **composition)
    result["plan_ms"] = round(1e3 * (time.perf_counter() - began), 1)
    result["plan_processor_ms"] = round(1e3 * (time.process_time() - used), 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_platforms", "cpu")
    cases = []
    for case in CASES:
        cases.append(measure(*case, options.repeats))
        print(json.dumps(cases[-1]), flush=True)
    result = {
        "question": "cost of large label spaces",
        "devices": f"{DEVICES} simulated on {platform.processor() or platform.machine()}",
        "triplets_per_image": TRIPLETS_PER_IMAGE,
        "jax": jax.__version__,
        "repeats": options.repeats,
        "cases": cases,
    }
    keep(result, options.json)


if __name__ == "__main__":
    main()
