"""Flip single bits in the files of a small trained run and table, and see that none is accepted in silence.

Command:  python experiments/flip_bits.py --flips=1600

After each flip `cdml check` must name the file and end with 1, unless what the file says is the same as
before. For a share of the flips the commands that use the file (evaluate, predict, train, reproduce) are run
too: each must end with 2 after a message, or with 0 after a warning. None may end in a traceback. Exits with
1 where something else happened, and prints it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from cdml_jax.cli import main as cli
from cdml_jax.models.weights.files import SHIPPED_FOLDER
from cdml_jax.system import console

CLASSES = ("finches/red finch", "finches/pink finch", "owl")
SIDE, EACH = 16, 14


class Place(NamedTuple):
    """A file whose bits are flipped.

    Attributes:
      kind: what it is, for the count.
      file: its path.
      folder: of the run or table that `cdml check` reads.
      uses: commands that read it.
    """

    kind: str
    file: Path
    folder: Path
    uses: tuple[list[str], ...]


def main() -> int:
    """Flip, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--use-every", type=int, default=4, help="flips between runs of the commands that use it"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, wrong = flip_bits(
            Path(folder), flips=options.flips, seed=options.seed, use_every=options.use_every
        )
    for (kind, what), number in sorted(counts.items()):
        print(f"{kind:12} {what:32} {number:6,}")
    print(f"{sum(counts.values()):,} flips, {len(wrong)} accepted in silence or with a traceback")
    print("\n".join(wrong[:20]))
    return 1 if wrong else 0


def flip_bits(
    folder: Path, *, flips: int, seed: int, use_every: int
) -> tuple[collections.Counter[tuple[str, str]], list[str]]:
    """How many flips had which end, by the kind of file; and those that had none of the right ones.

    Args:
      folder: where the runs are trained; empty.
      flips: shared evenly by the kinds of files: results, features, classes, settings.
      seed: of the places.
      use_every: flips of a kind between two after which the commands that use the file are run as well.
    """
    rng = np.random.default_rng(seed)
    with _environment(folder):
        places = _places(folder)
        kinds = sorted({place.kind for place in places})
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        wrong: list[str] = []
        with console.progress("Flipping bits", flips, unit="flips") as shown:
            for number in range(flips):
                kind = kinds[number % len(kinds)]
                own = [place for place in places if place.kind == kind]
                place = own[rng.integers(len(own))]
                used = number // len(kinds) % use_every == 0
                what, faults = _flipped(place, int(rng.integers(8 * place.file.stat().st_size)), used)
                counts[kind, what] += 1
                wrong += faults
                shown.advance()
    return counts, wrong


def _flipped(place: Place, bit: int, used: bool) -> tuple[str, list[str]]:
    """What became of one flip, and what should not have."""
    whole = place.file.read_bytes()
    status = place.file.stat()
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    same = _same(place.file, whole, bytes(damaged))
    name = f"{place.file}, bit {bit}"
    faults = []
    with _kept(place.folder):
        place.file.write_bytes(damaged)
        os.utime(place.file, ns=(status.st_atime_ns, status.st_mtime_ns))  # as the flip of a disk leaves it
        ended, said = _run(["check", str(place.folder)])
        if "Traceback" in said:
            faults.append(f"{name}: check: {said[-300:]}")
        if ended == 1 and str(place.file) in said:
            what = "named by check"
        elif ended == 0 and same:
            what = "of no meaning"
        else:
            what = f"accepted, status {ended}"
            faults.append(f"{name}: check ends with {ended}: {said[-200:]}")
        for command in place.uses if used else ():
            # And as an edit does: what is remembered by time and size is read again. The command before may
            # have written the file again, and said so.
            place.file.write_bytes(damaged)
            ended, said = _run(command)
            if "Traceback" in said or ended not in (0, 2):
                faults.append(f"{name}: {command[0]} ends with {ended}: {said[-300:]}")
            elif ended == 0 and not same and not _warned(said):
                faults.append(f"{name}: {command[0]} says nothing: {said[-300:]}")
    return what, faults


def _warned(said: str) -> bool:
    return any(word in said for word in ("is not as", "damaged", "edited", "cannot be read", "made again"))


def _same(file: Path, whole: bytes, damaged: bytes) -> bool:
    """Whether JSON has the same content after the flip: an exponent's e as E, a digit of an escape."""
    if file.suffix != ".json":
        return False
    try:
        return json.loads(damaged) == json.loads(whole)
    except (ValueError, RecursionError):
        return False


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Puts all of the place back afterwards: commands write files again, and draw."""
    copy = folder.with_name(f"{folder.name}.whole")
    shutil.copytree(folder, copy, copy_function=shutil.copy2)
    features = folder.parent / "data" / "features"
    kept = {path: (path.read_bytes(), path.stat()) for path in features.iterdir()}
    try:
        yield
    finally:
        shutil.rmtree(folder)
        copy.rename(folder)
        for path in features.iterdir():
            if path not in kept:
                path.unlink()
        for path, (content, status) in kept.items():
            path.write_bytes(content)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _run(command: list[str]) -> tuple[int, str]:
    """Exit status and all that a command says; of an exception that it does not answer, its traceback."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ended = cli.main(command)
        except Exception as error:
            return -1, f"Traceback: {type(error).__name__}: {error}"
    return ended, said.getvalue()


@contextlib.contextmanager
def _environment(folder: Path) -> Iterator[None]:
    before = os.environ.get("CDML_DATA_DIR")
    os.environ["CDML_DATA_DIR"] = str(folder / "data")
    try:
        yield
    finally:
        del os.environ["CDML_DATA_DIR"]
        if before is not None:
            os.environ["CDML_DATA_DIR"] = before


def _places(folder: Path) -> list[Place]:
    """Trains a run on a frozen network and a table, and names their files."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(CLASSES):
        (folder / "birds" / name).mkdir(parents=True)
        for k in range(EACH):
            image = np.full((20, 24, 3), 60 * index + 40) + rng.normal(0, 25, (20, 24, 3))
            cv2.imwrite(str(folder / "birds" / name / f"{k}.png"), np.clip(image, 0, 255).astype(np.uint8))
    common = [
        "--config=own_images_scratch",
        f"--config.source=folder:{folder / 'birds'}",
        f"--config.image.image_size={SIDE}",
        f"--config.model.weights={SHIPPED_FOLDER / 'demo_upstream.safetensors'}",
        "--config.model.frozen=backbone",
        "--config.model.frozen_views=1",
        "--config.epochs=1",
        "--config.warmup_epochs=0",
        "--config.batch_size=8",
        "--config.data.num_threads=0",
        "--config.reproduce.seeds=1",
        "--config.reproduce.methods=baseline,cdml",
        "--config.compilation_cache=",
    ]
    run, table = folder / "run", folder / "table"
    train, reproduce = (
        [command, *common, f"--workdir={where}"] for command, where in (("train", run), ("reproduce", table))
    )
    for command in (train, reproduce):
        ended, said = _run(command)
        if ended:
            raise SystemExit(f"{command[0]} ends with {ended}: {said}")
    evaluate = ["evaluate", f"--workdir={run}"]
    predict = ["predict", f"--workdir={run}", str(folder / "birds/owl/0.png")]
    one = table / "runs/cdml-seed0"
    predict_one = ["predict", f"--workdir={one}", str(folder / "birds/owl/0.png")]
    places = [
        Place("settings", run / "config.json", run, (train, evaluate, predict)),
        Place("settings", table / "config.json", table, (reproduce,)),
        Place("settings", one / "config.json", table, (predict_one,)),
        Place("classes", run / "classes.json", run, (evaluate, predict)),
        Place("classes", one / "classes.json", table, (predict_one,)),
        Place("images", run / "images.npz", run, ()),
    ]
    places += [
        Place("results", path, table, (reproduce,)) for path in sorted((table / "results").glob("*.npz"))
    ]
    features = sorted((folder / "data/features").iterdir())
    return places + [Place("features", path, run, (train,)) for path in features]


if __name__ == "__main__":
    sys.exit(main())
