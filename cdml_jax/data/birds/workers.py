"""Drawing many birds on several cores: the same bytes, in the same order, for any number of workers.

Workers are plain child processes that draw what they are asked for on standard input and end with it, so
that nothing outlives a parent that was killed, and a caller's script needs no `__main__` guard.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import cv2
import numpy as np

from cdml_jax.data.birds.drawing import draw
from cdml_jax.data.birds.sets import SPLITS, BirdSet

QUALITY = 92

# A child imports the drawing alone, not the packages around it: importing JAX takes longer than its share
# of the demo's images.
_CHILD = """
import sys, types
for name in ("cdml_jax", "cdml_jax.data", "cdml_jax.data.birds"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv.pop(1)]
from cdml_jax.data.birds.workers import work
work(int(sys.argv[1]), int(sys.argv[2]))
"""


def generator(birds: BirdSet, split: str, label: int, index: int) -> np.random.Generator:
    """Random generator of one image, keyed by everything that names it."""
    key = [*birds.version_numbers, birds.seed, SPLITS.index(split), label, index]
    return np.random.default_rng(np.random.SeedSequence(key))


def image(birds: BirdSet, split: str, label: int, index: int) -> np.ndarray:
    """Image `index` of class `label` in a split: (size, size, 3) uint8, red, green, blue."""
    rng = generator(birds, split, label, index)
    return draw(birds.species[label], rng, birds.image_size, birds.difficulty)


def encoded(birds: BirdSet, split: str, position: int) -> bytes:
    """JPEG bytes of the image at `position` of a split, classes one after another."""
    label, index = divmod(position, birds.per_species[split])
    # full colour resolution: a ring around an eye is two pixels wide
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", image(birds, split, label, index)[..., ::-1], options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode {birds.name} {split} {position}")
    return data.tobytes()


class Drawers:
    """`num_workers` processes that draw the images of one set; a context manager.

    Args:
      birds: the set.
      num_workers: processes; with 1 the calling process draws.
    """

    def __init__(self, birds: BirdSet, num_workers: int):
        self.birds = birds
        self.num_workers = num_workers
        self._children: list[_Child] = []

    def __enter__(self) -> Drawers:
        if self.num_workers > 1:
            self._children = [_Child(worker, self.num_workers) for worker in range(self.num_workers)]
            for child in self._children:
                child.requests.write(json.dumps(dataclasses.asdict(self.birds)).encode() + b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.end(at_once=kind is not None)
        self._children = []

    def split(self, split: str) -> Iterator[bytes]:
        """Encoded images of a split, in order of position."""
        total = len(self.birds.species) * self.birds.per_species[split]
        for child in self._children:
            child.requests.write(f"{split}\n".encode())
            child.requests.flush()
        for position in range(total):
            if self._children:
                yield self._children[position % self.num_workers].receive()
            else:
                yield encoded(self.birds, split, position)


class _Child:
    """A process that draws, and the pipes to it and from it."""

    def __init__(self, worker: int, num_workers: int):
        # the child finds the same packages, however the parent came by them
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        package = [str(folder) for folder in Path(__file__).parents[2::-1]]  # outermost first
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *package, str(worker), str(num_workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.requests: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        self._images: IO[bytes] = self._process.stdout  # type: ignore[assignment]

    def receive(self) -> bytes:
        """The next image."""
        length = int.from_bytes(self._images.read(4), "little")
        data = self._images.read(length)
        if not length or len(data) != length:
            raise RuntimeError(f"a process that draws birds ended early, with status {self._process.wait()}")
        return data

    def end(self, *, at_once: bool) -> None:
        """Waits for the child to end, which it does when nothing more can be asked of it."""
        if at_once:
            self._process.kill()
        self._images.close()
        with contextlib.suppress(BrokenPipeError):
            self.requests.close()
        self._process.wait()


def work(worker: int, num_workers: int) -> None:
    """Draws every `num_workers`-th image of the splits named on standard input, after the set itself."""
    cv2.setNumThreads(1)
    # Ctrl-C reaches every process of the terminal; the parent decides when its children stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    birds = BirdSet.from_fields(json.loads(sys.stdin.buffer.readline()))
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            split = line.decode().strip()
            for position in range(worker, len(birds.species) * birds.per_species[split], num_workers):
                data = encoded(birds, split, position)
                sys.stdout.buffer.write(len(data).to_bytes(4, "little") + data)
            sys.stdout.buffer.flush()
