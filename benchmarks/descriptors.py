"""Photographs described by SCDA beside the same photographs embedded, by one network at one size.

    python benchmarks/descriptors.py FOLDER [--images=512] [--descriptors scda …] [--turns=7]

FOLDER is searched for images, of which the first are taken, evenly spread. EfficientNet-Lite0 with ImageNet's
weights reads, decodes and describes them in the calling process; the sides take turns. Embedding sees the
centre square of each image and pools the last map, SCDA the whole image and pools what it selects. A ratio is
the median over the turns, with its quartiles; processor time, over all cores, is what neighbours on a shared
machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cdml_jax.configuration.load import load
from cdml_jax.inference.descriptors import DESCRIPTORS, Descriptor, direction_of
from cdml_jax.inference.pretrained import pretrained


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--descriptors", nargs="+", choices=tuple(DESCRIPTORS), default=["scda"])
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    found = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    places = np.unique(np.linspace(0, len(found) - 1, options.images).astype(int))
    files = [found[place] for place in places]
    side = options.image_size
    run = pretrained(load("own_images", {"image.image_size": str(side)}).settings)
    sides: dict[str, Callable[[], object]] = {"embedding": lambda: list(run.each(files))}
    for name in options.descriptors:
        direction = direction_of(run, files[:64], side) if name == "ddt" else None
        descriptor = Descriptor(name, side, direction)
        sides[name] = _described(descriptor, run, files)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(-1, options.turns):  # the first one compiles
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            taken = timed(sides[name])
            if turn >= 0:
                seconds[name].append(taken)
    print(f"{len(files)} images at {side} px, {options.turns} turns")
    for name, taken in seconds.items():
        whole = statistics.median(one for one, _ in taken)
        for place, kind in enumerate(("clock", "processor")):
            ratios = [a[place] / b[place] for a, b in zip(taken, seconds["embedding"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"{name:12} {whole:6.1f} s, {kind:9} ratio {middle:.3f} ({low:.3f} to {high:.3f})")


def _described(descriptor: Descriptor, run, files) -> Callable[[], object]:
    return lambda: list(descriptor.each(run, files))


def timed(take: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of processor time."""
    began, processor = time.perf_counter(), time.process_time()
    take()
    return time.perf_counter() - began, time.process_time() - processor


if __name__ == "__main__":
    main()
