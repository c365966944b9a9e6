"""Recall@1, R-precision and mAP@R of many embeddings: ours beside AccuracyCalculator with faiss.

    python benchmarks/retrieval.py [--images=60000] [--classes=1000] [--repeats=3] [--json=FILE]

Both sides search the same float32 embeddings of length 1, exactly, on the same cores, in turn, in one
process; ours is compiled before, and each core of a processor is a device of its own, which share the
queries. The peer is pytorch-metric-learning with faiss-cpu (`k="max_bin_count"`, the fastest setting that
leaves mAP@R right); where they are not installed, that is said and ours runs alone.
Beside the time on the clock stands the processors' time, which neighbours on a shared machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from side_by_side import cores, keep, own_devices

from cdml_jax.retrieval import retrieval


def clusters(images: int, classes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of length 1 around a centre for each class, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    rows = rng.normal(size=(images, size)) + 0.6 * rng.normal(size=(classes, size))[labels]
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True)), labels


def make_peer() -> Callable[[np.ndarray, np.ndarray], dict] | None:
    """The peer's function, or None where it is not installed."""
    try:
        import faiss
        import torch
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    except ImportError as error:
        print(f"peer skipped: {error.name} is not installed")
        return None
    print(
        f"peer: torch {torch.__version__}, faiss {faiss.__version__} ({faiss.omp_get_max_threads()} threads)"
    )
    include = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    device = torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")
    calculator = AccuracyCalculator(include=include, k="max_bin_count", device=device)
    return calculator.get_accuracy


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", cores())
    devices = own_devices()
    embeddings, labels = clusters(options.images, options.classes, options.size)
    sides: dict[str, Callable] = {"ours": lambda e, y: retrieval(e, y, recall_at=(1,), devices=devices)}
    peer = make_peer()
    if peer is not None:
        sides["peer"] = peer
    sides["ours"](embeddings, labels)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    found = {}
    for _ in range(options.repeats):
        for name, function in sides.items():
            began, used = time.perf_counter(), time.process_time()
            found[name] = function(embeddings, labels)
            seconds[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - used)
    ours = found["ours"]
    result = {
        "question": "Recall@1, R-precision and mAP@R of all embeddings among each other",
        "images": options.images,
        "classes": options.classes,
        "size": options.size,
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "devices": len(devices),
        "jax": jax.__version__,
        "ours": {"recall_at_1": ours.recall[1], "r_precision": ours.r_precision, "map_at_r": ours.map_at_r},
        "ours_s": round(statistics.median(seconds["ours"]), 2),
        "ours_processor_s": round(statistics.median(processor["ours"]), 2),
        "repeats": options.repeats,
    }
    if "peer" in found:
        ratios = [peer / ours for peer, ours in zip(seconds["peer"], seconds["ours"])]
        used = [peer / ours for peer, ours in zip(processor["peer"], processor["ours"])]
        result |= {
            "peer": found["peer"],
            "peer_s": round(statistics.median(seconds["peer"]), 2),
            "peer_processor_s": round(statistics.median(processor["peer"]), 2),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "processor_ratio": round(statistics.median(used), 3),
        }
    print(json.dumps(result, indent=1))
    keep(result, options.json, "the page shows both sides" if peer is None else "")


if __name__ == "__main__":
    main()
