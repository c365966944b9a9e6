"""What the steps of other networks cost: each beside the baseline's, and beside a count of operations.

    python benchmarks/method_steps.py [--repeats=7] [--case=NETWORK] [--json=FILE]

Both steps are those of `cdml train`, compiled, on the same batch of noise; they take turns in one process.
The count is of multiply-accumulates: those of the trunk as XLA counts its forward pass up to each stage,
those of the method by the formulas below, and two more of each for the gradient.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from side_by_side import compare, keep, machine, milliseconds
from step_overhead import prepared

from cdml_jax.configs import base
from cdml_jax.configuration.settings import Settings, changed, from_plain
from cdml_jax.models import Spec, build

CLASSES = 200
# Network, side of the images, batch, methods.
CASES = (
    ("resnet18", 128, 8, ("compact_bilinear", "pmg")),
    ("resnet18", 224, 4, ("nts_net", "spatial_transformer", "object_crop")),
    ("resnet50", 96, 8, ("bilinear",)),
)


class Trunk(NamedTuple):
    """Multiply-accumulates of an image up to each of three stages, and the shapes of their maps.

    `side` is the image's, `half` the whole network's count for one of half the side.
    """

    up_to: list[float]
    maps: list[tuple[int, ...]]
    side: int = 0
    half: float = 0.0


def trunk_of(name: str, side: int) -> Trunk:
    """The network without what a part takes the place of."""
    model = nnx.eval_shape(lambda: build(name, Spec(num_classes=CLASSES), rngs=nnx.Rngs(0)))
    graph, *state = nnx.split(model, ...)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    products, maps = [], []
    for blocks in range(len(model.blocks) + 1):

        def front(state: Any, images: jax.Array, blocks: int = blocks) -> jax.Array:
            return nnx.merge(graph, *state).front(images, blocks, train=False)

        maps.append(jax.eval_shape(front, state, images).shape[1:])
        products.append(jax.jit(front).lower(state, images).cost_analysis()["flops"] / 2)
    coarser = [k for k in range(len(model.blocks)) if maps[k][0] > maps[k + 1][0]]
    ends = [*coarser[-2:], len(model.blocks)]
    return Trunk([products[k] for k in ends], [maps[k] for k in ends], side)


def heads(features: int, embedding: int) -> float:
    """Classifier and projection."""
    return features * (CLASSES + embedding)


def bilinear(trunk: Trunk, embedding: int) -> float:
    """P N², the classifier on N² features."""
    height, width, channels = trunk.maps[-1]
    reduction = height * width * channels * 128 if channels > 512 else 0
    channels = 128 if channels > 512 else channels
    whole = reduction + height * width * channels**2 + heads(channels**2, embedding)
    return 3 * (trunk.up_to[-1] + whole)


def compact_bilinear(trunk: Trunk, embedding: int) -> float:
    """P N² forward, and again in the gradient, whose matrix is symmetric."""
    height, width, channels = trunk.maps[-1]
    return 3 * (trunk.up_to[-1] + heads(8192, embedding)) + 2 * height * width * channels**2


def pmg(trunk: Trunk, embedding: int) -> float:
    """Four whole forward passes; gradients of three stages with all below them, then of everything."""
    a = trunk.maps[-1][-1] // 4
    stages = [h * w * (c * a + 9 * a * 2 * a) + 2 * a * a + a * CLASSES for h, w, c in trunk.maps]
    last = 3 * 2 * a * a + heads(a, embedding)
    forward = 4 * (trunk.up_to[-1] + sum(stages) + last)
    backward = sum(below + own for below, own in zip(trunk.up_to, stages))
    return forward + 2 * (backward + trunk.up_to[-1] + sum(stages) + last)


def crop(side: int, size: int) -> float:
    """Bilinear samples by two matrix products: s H W 3 and s s W 3; they have no gradient by the image."""
    return 3 * size * side * (side + size)


def nts_net(trunk: Trunk, embedding: int) -> float:
    """The image and six crops of half its side, whole; a navigator whose first layer stops the gradient."""
    height, width, channels = trunk.maps[-1]
    levels = [-(-height // k) * -(-width // k) for k in (1, 2, 4)]
    first = 9 * channels * 128 * levels[0]
    later = 9 * 128**2 * sum(levels[1:]) + 128 * sum(k * p for k, p in zip((6, 6, 9), levels))
    made = trunk.up_to[-1] + 6 * trunk.half + later + heads(5 * channels, embedding) + 7 * channels * CLASSES
    return 3 * made + 2 * first + 6 * crop(trunk.side, trunk.side // 2)


def spatial_transformer(trunk: Trunk, embedding: int) -> float:
    """Two crops of the image's size and the localization network; samples have a gradient by their places.

    Of the second product that is the first's result and the weights, of the first product the weights.
    """
    height, width, channels = trunk.maps[-1]
    placed = height * width * channels * 128 + 49 * 128 * 128
    samples = 3 * trunk.side**3
    return 3 * (3 * trunk.up_to[-1] + placed + heads(2 * channels, embedding)) + 2 * (2 + 3) * samples


def object_crop(trunk: Trunk, embedding: int) -> float:
    """The image and a crop of its size."""
    both = 2 * trunk.up_to[-1] + heads(trunk.maps[-1][-1], embedding)
    return 3 * both + crop(trunk.side, trunk.side)


FORMULAS: dict[str, Callable[[Trunk, int], float]] = {
    "bilinear": bilinear,
    "compact_bilinear": compact_bilinear,
    "pmg": pmg,
    "nts_net": nts_net,
    "spatial_transformer": spatial_transformer,
    "object_crop": object_crop,
}


def baseline(name: str, trunk: Trunk, embedding: int) -> float:
    """The plain step."""
    pooling = 4096 * (49 * 512 + 4096) if name.startswith("vgg") else 0
    return 3 * (trunk.up_to[-1] + pooling + heads(4096 if pooling else trunk.maps[-1][-1], embedding))


def stepper(config: Settings, method: str) -> Callable[[], object]:
    """A call makes a step of the method and waits for it."""
    program, batch, costs = prepared(config, CLASSES, method)
    state = program.initial_state(0)

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(program.step(state, batch, costs))

    step()
    return step


def measure(name: str, side: int, batch: int, method: str, repeats: int) -> dict:
    """Seconds of both steps in turn, and what the count says."""
    changes = {"model.name": name, "image.image_size": side, "batch_size": batch}
    config = changed(from_plain(base.get_config().to_dict()), changes)
    sides = {"baseline": stepper(config, "baseline"), method: stepper(config, method)}
    clock: dict[str, list[float]] = {key: [] for key in sides}
    processor: dict[str, list[float]] = {key: [] for key in sides}
    for _ in range(repeats):
        for key, step in sides.items():
            began, used = time.perf_counter(), time.process_time()
            step()
            clock[key].append(time.perf_counter() - began)
            processor[key].append(time.process_time() - used)
    trunk, embedding = trunk_of(name, side), config.model.embedding_size
    if method == "nts_net":
        trunk = trunk._replace(half=trunk_of(name, side // 2).up_to[-1])
    counted = FORMULAS[method](trunk, embedding) / baseline(name, trunk, embedding)
    found = compare(clock[method], clock["baseline"])
    by_processor = compare(processor[method], processor["baseline"])["ratio"]
    return {
        "network": name,
        "image_size": side,
        "batch_size": batch,
        "method": method,
        "counted": round(counted, 3),
        **found,
        "processor_ratio": by_processor,
        "over_count": round(by_processor / counted, 3),
        "baseline_ms": milliseconds(clock["baseline"]),
        "ms": milliseconds(clock[method]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--case", help="one network alone")
    parser.add_argument("--methods", default="", help="these alone, by commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = []
    for name, side, batch, methods in CASES:
        wanted = [m for m in methods if not options.methods or m in options.methods.split(",")]
        for method in wanted if options.case in (None, name) else ():
            cases.append(measure(name, side, batch, method, options.repeats))
            print(cases[-1], flush=True)
    apart = [abs(math.log(case["over_count"])) for case in cases]
    print(
        f"at most {np.expm1(max(apart)):.0%} from the count, median {np.expm1(statistics.median(apart)):.0%}"
    )
    keep({"question": "Steps of other networks", **machine(), "cases": cases}, options.json)


if __name__ == "__main__":
    main()
