"""The training step beside PyTorch's, on the same device: the joint objective, its gradient, the update.

    python benchmarks/training_step.py [--repeats=15] [--turn=1.0] [--case=NAME] [--json=FILE]

Each side is a process of its own, so that neither has the other's threads, and each has its library's best
settings; both have memory in huge pages. Both take the same batch of random images, already on the device
as bytes, and compute: the weighted softmax, triplets drawn in proportion to the pair weights, soft confusion
counts, gradients, clipping, the optimiser and batch statistics. Ours is the step that `cdml train` runs, with
its metrics. PyTorch runs in several variants (torch_training_step.py), each beside ours; the one that does
best is the peer.

Compilation and three steps go before. A turn ends when its last step's results are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from side_by_side import compare, keep, machine, milliseconds
from torch_training_step import VARIANTS
from turns import Seconds, Side, SkippedError, in_turn, serve

from cdml_jax.configs import base, demo

# Classes, a configuration, and what differs from it.
_LARGE = {"model.dtype": "bfloat16", "image.image_size": 224, "batch_size": 256}
_ADAMW = {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-4, "optimizer.weight_decay": 0.05}
CASES: dict[str, dict[str, tuple[int, ModuleType, dict[str, Any]]]] = {
    "cpu": {
        "small_resnet": (48, demo, {"model.weights": ""}),
        "mobilenet_v2": (200, base, {"image.image_size": 128, "batch_size": 32}),
        "efficientnet_lite0": (200, base, {"image.image_size": 128, "batch_size": 32}),
    },
    "gpu": {
        "resnet50": (200, base, _LARGE),
        "vit_base_patch16": (200, base, _LARGE | _ADAMW),
    },
}
# Read when a process starts: memory in huge pages, by the C library and by torch's allocator; for both sides.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
# So that torch finds room beside it.
ENVIRONMENT_OF_OURS = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}


def begin(case: str, folder: Path) -> tuple[Callable[[int], object], dict]:
    """Our side: the step, compiled and warm; leaves in the folder what the peer needs."""
    import jax
    from step_overhead import prepared

    from cdml_jax.configuration.settings import changed, from_plain
    from cdml_jax.models.spec import TORCHVISION

    platform = next(name for name, cases in CASES.items() if case in cases)
    classes, module, changes = CASES[platform][case]
    config = changed(from_plain(module.get_config().to_dict()), {"model.name": case} | changes)
    program, batch, costs = prepared(config, classes)
    state = program.initial_state(0)
    lowered = program.step.lower(state, batch, costs)
    step = lowered.compile()

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = step(state, batch, costs)
        jax.block_until_ready(state)

    run(3)
    plain = case == "small_resnet"  # takes bytes in [-1, 1]; the others take off ImageNet's mean too
    mean, std = ((0.5,) * 3, (0.5,) * 3) if plain else (TORCHVISION.mean, TORCHVISION.std)
    np.savez(
        folder / "batch.npz",
        image=batch["image"],
        label=batch["label"],
        class_weights=costs.class_weights,
        pair_weights=costs.pair_weights.matrix,
        scale=np.float32(1 / (255 * np.array(std))),
        shift=np.float32(-np.array(mean) / std),
    )
    return run, {
        "platform": platform,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.parameters)),
        **machine(),
        **(roofline(lowered, config.model.dtype) if platform == "gpu" else {}),
        "settings": {
            "network": case,
            "image_size": config.image.image_size,
            "batch_size": config.batch_size,
            "dtype": config.model.dtype,
            "devices": program.mesh.size,
            "embedding_size": config.model.embedding_size,
            "embedding_from": config.model.embedding_from,
            "triplets": config.objective.triplets_per_image * config.batch_size,
            "margin": config.objective.margin,
            "triplet_weight": config.objective.triplet_weight,
            "label_smoothing": config.objective.label_smoothing,
            "optimizer": config.optimizer.name,
            "learning_rate": config.optimizer.learning_rate,
            "momentum": config.optimizer.momentum,
            "weight_decay": config.optimizer.weight_decay,
            "clip_norm": config.optimizer.clip_norm,
        },
    }


def roofline(lowered: Any, dtype: str) -> dict[str, float]:
    """Operations of a step, and the most a second: a large matrix product's, the fastest of six turns.

    They are counted before compilation: of what then calls a library the count says nothing.
    """
    import jax
    import jax.numpy as jnp

    side, times, best = 8192, 20, np.inf
    factors = jax.random.normal(jax.random.key(0), (2, side, side)).astype(dtype)
    product = jax.jit(jnp.matmul)
    for _ in range(6):
        began = time.perf_counter()
        jax.block_until_ready([product(*factors) for _ in range(times)])
        best = min(best, time.perf_counter() - began)
    most = times * 2 * side**3 / best
    return {"flop": lowered.cost_analysis()["flops"], "peak_flop_per_second": most}


def measure(case: str, options: argparse.Namespace) -> dict:
    """One network: ours beside every variant of the peer."""
    sides: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    of_ours: list[Seconds] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, f"--case={case}", f"--serve={folder}"]
        with Side(command, ENVIRONMENT | ENVIRONMENT_OF_OURS) as ours:
            about = ours.facts
            settings = about.pop("settings")
            for name in VARIANTS[about["platform"]]:
                if options.variants and name not in options.variants:
                    continue
                told = json.dumps({**settings, "platform": about["platform"], "variant": name})
                script = str(Path(__file__).with_name("torch_training_step.py"))
                command = [sys.executable, script, told, str(Path(folder) / "batch.npz")]
                try:
                    with Side(command, ENVIRONMENT) as peer:
                        if peer.facts["parameters"] != about["parameters"]:
                            raise RuntimeError(
                                f"{case}: {peer.facts['parameters']} parameters there, "
                                f"{about['parameters']} here"
                            )
                        taken, other = in_turn(ours, peer, repeats=options.repeats, turn=options.turn)
                except SkippedError as reason:
                    skipped[name] = str(reason)
                    print(f"{case:<18} {name}: skipped, {reason}", flush=True)
                    continue
                of_ours += taken
                of_clock, of_processor = (
                    ([getattr(one, kind) for one in other], [getattr(one, kind) for one in taken])
                    for kind in Seconds._fields
                )
                sides[name] = {
                    "ms": milliseconds(of_clock[0]),
                    "ours_ms": milliseconds(of_clock[1]),
                    **compare(*of_clock),
                    "processor_ms": milliseconds(of_processor[0]),
                    "processor_ratio": compare(*of_processor)["ratio"],
                    "torch": peer.facts["torch"],
                    "threads": peer.facts["threads"],
                }
                print(
                    f"{case:<18} {name:<42} {sides[name]['ms']:>9} ms, ours {sides[name]['ours_ms']:>9} ms, "
                    f"{sides[name]['ratio']:>6} x {sides[name]['ratio_quartiles']}, "
                    f"processor {sides[name]['processor_ratio']} x",
                    flush=True,
                )
    found = {**settings, **about, "variants": sides, "skipped": skipped}
    if sides:
        seconds = statistics.median(one.whole for one in of_ours)
        best = min(sides, key=lambda name: sides[name]["ratio"])
        found |= {
            "ours_ms": round(1e3 * seconds, 3),
            "ours_processor_ms": milliseconds([one.processor for one in of_ours]),
            "best_variant": best,
            "ratio": sides[best]["ratio"],
            "ratio_quartiles": sides[best]["ratio_quartiles"],
            "processor_ratio": sides[best]["processor_ratio"],
        }
        if "flop" in about:
            at_peak = about["flop"] / about["peak_flop_per_second"]
            found["share_of_peak"] = round(at_peak / seconds, 3)
            found["peer_share_of_peak"] = round(1e3 * at_peak / sides[best]["ms"], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--platform", choices=tuple(CASES), default="cpu", help="what JAX runs on here")
    parser.add_argument("--case", help="one network alone")
    parser.add_argument("--variants", type=lambda text: text.split(";"), help="some alone, with ; between")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--turn", type=float, default=1.0, help="seconds, about")
    parser.add_argument("--serve", type=Path, help="be our side, for another process of this script")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.serve:
        return serve(lambda: begin(options.case, options.serve))
    cases = [measure(case, options) for case in ([options.case] if options.case else CASES[options.platform])]
    result = {"question": "The training step", "repeats": options.repeats, "cases": cases}
    for case in cases:
        print({name: value for name, value in case.items() if name != "variants"})
    keep(result, options.json, "" if all(case["variants"] for case in cases) else "a network had no peer")
    return None


if __name__ == "__main__":
    main()
