"""Photographs to augmented batches: ours beside torch's DataLoader with Pillow and tf.data.

    python benchmarks/input_pipeline.py --images=DIR [--resize=500x375] [--photographs=2000] [--json=FILE]

DIR holds JPEG files, in folders or not. `--resize` first makes a copy of some of them in a temporary folder,
scaled and cut to that size (upright ones to its transpose) and saved at quality 90: the size of the
photographs that a set has, whatever the size of those that are at hand.

Every side runs in a process of its own and waits while it is not its turn. Of each peer all settings are
tried, and the fastest takes part. With `kept`, decoded images stay in memory, as `cdml train` has it where
they fit into `data.cache_bytes`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from input_sides import photographs
from side_by_side import ALL_SIDES, compare, cores, keep, machine


def copy_of(folder: Path, count: int, width: int, height: int, into: Path) -> None:
    """Some of a folder's photographs, each scaled to cover width x height, or its transpose, and cut."""
    from PIL import Image, ImageOps

    chosen = random.Random(0).sample(photographs(folder), count)
    for number, path in enumerate(chosen):
        with Image.open(folder / path) as image:
            size = (width, height) if image.width >= image.height else (height, width)
            image = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC)
            image.save(into / f"{number:06}.jpg", quality=90)


class Side:
    """A process that makes batches when asked."""

    def __init__(self, name: str, arguments: list[str]):
        script = Path(__file__).parent / "input_sides.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script), name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        self.said = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __call__(self, batches: int) -> tuple[float, float]:
        """Seconds in which it made so many batches, on the clock and of processors."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{batches}\n")
        self._process.stdin.flush()
        line = self._line()
        if not line:
            raise SystemExit("a side has failed; its message stands above")
        seconds, processor = map(float, line.split())
        return seconds, processor

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@contextlib.contextmanager
def best_of(settings: list[str], arguments: list[str], batches: int) -> Iterator[tuple[str, Side | None]]:
    """The fastest of a side's settings, of two tries each, and its process; what is lacking, and None."""
    best: tuple[float, str, Side | None] = (float("inf"), "", None)
    for name in settings:
        side = Side(name, arguments)
        if side.said != "ready":
            side.close()
            best = (best[0], side.said or "it ended at once", None)
            break
        took = min(side(batches)[0] for _ in range(2))
        print(f"  {name}: {batches / took:.2f} batches/s")
        slower = side if took >= best[0] else best[2]
        if took < best[0]:
            best = (took, name, side)
        if slower is not None:
            slower.close()
    try:
        yield best[1], best[2]
    finally:
        if best[2] is not None:
            best[2].close()


def measure(folder: Path, options: argparse.Namespace) -> dict:
    """Images a second of each side, in turn, and the ratios."""
    arguments = [str(folder), f"--batch={options.batch}", f"--size={options.size}"]
    arguments += [f"--jitter={options.jitter}", f"--threads={cores()}"]
    workers = sorted({0, 1, 2, cores()})
    settings = {
        "ours": ["ours"],
        "ours, decoded images kept": ["ours kept"],
        "torch": [f"torch {n}{draft}" for n in workers for draft in ("", " plain")],
        "tf.data": ["tf each", "tf together"],
    }
    with contextlib.ExitStack() as stack:
        sides, chosen, skipped = {}, {}, {}
        for name, tried in settings.items():
            setting, side = stack.enter_context(best_of(tried, arguments, max(4, options.batches // 4)))
            if side is None:
                skipped[name] = setting
                print(f"{name} is skipped: {setting}")
            else:
                sides[name], chosen[name] = side, setting
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(options.repeats):
            for name, side in sides.items():
                turns[name].append(side(options.batches))
    images = options.batches * options.batch
    seconds = {name: [second for second, _ in one] for name, one in turns.items()}
    found = {}
    for name, took in seconds.items():
        used = statistics.median(processor for _, processor in turns[name])
        found[name] = {
            "setting": chosen[name],
            "images_per_second": round(images / statistics.median(took), 1),
            "processor_ms": round(1e3 * used / images, 3),  # of an image
            **compare(took, seconds["ours"]),
        }
    return {"sides": found, "skipped": skipped, "turns": options.repeats}


def described(folder: Path) -> dict:
    """How many photographs there are, and their median size."""
    from PIL import Image

    paths = photographs(folder)
    sizes = []
    for path in paths:
        with Image.open(folder / path) as image:
            sizes.append(image.size)
    width, height = (statistics.median(side) for side in zip(*sizes))
    kilobytes = statistics.mean((folder / path).stat().st_size for path in paths) / 1e3
    return {
        "photographs": len(paths),
        "width": round(width),
        "height": round(height),
        "kilobytes": round(kilobytes, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="a folder with JPEG files")
    parser.add_argument("--resize", default="", metavar="WIDTHxHEIGHT")
    parser.add_argument("--photographs", type=int, default=2000, help="how many to copy for --resize")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=40, help="in a turn")
    parser.add_argument("--jitter", type=float, default=0.2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not photographs(options.images):
        parser.error(f"--images: no JPEG file below {options.images}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.images
        if options.resize:
            width, height = map(int, options.resize.split("x"))
            count = min(options.photographs, len(photographs(folder)))
            copy_of(folder, count, width, height, Path(scratch))
            folder = Path(scratch)
        result = {
            "question": "photographs to augmented batches, images a second",
            **described(folder),
            "resized": bool(options.resize),
            "size": options.size,
            "batch": options.batch,
            "jitter": options.jitter,
            **measure(folder.resolve(), options),
            **machine(),
        }
    print(json.dumps(result, indent=1))
    keep(result, options.json, ALL_SIDES if result["skipped"] else "")


if __name__ == "__main__":
    main()
