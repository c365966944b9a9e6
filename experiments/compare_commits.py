"""Show that a change of structure changed nothing that is measured: this checkout beside an earlier commit.

    python experiments/compare_commits.py --base=COMMIT --out=DIR
    python experiments/compare_commits.py --base=COMMIT --out=DIR --only=controls,plans
    python experiments/compare_commits.py --base=COMMIT --out=DIR --only=times --alternations=20

Both sides run on this machine with the same packages, by the command line and the public functions alone.
Each part compares bits: final states by the checksums of every array in the last checkpoint, parameters as
arrays, JSON value by value after the keys in `RENAMED` have been given their new names. What is measured in
seconds is left out of the comparison of JSON, and `times` reports it. Runs of the earlier commit are kept;
today's are made again. What differs is printed, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent

# Keys and names before, and what they are called now: in configurations, logs, results and checkpoints.
RENAMED: dict[str, str] = {"row": "method", "rows": "methods", "by_row": "by_class"}
# Keys whose values are new here, so that there is nothing to compare them with.
ADDED: tuple[str, ...] = ("provenance", "names")
MEASURED_IN_SECONDS = (
    "seconds",
    "step_ms_p50",
    "step_ms_p90",
    "step_ms_p99",
    "step_ms_max",
    "images_per_second",
    "data_wait_share",
    "checkpoint_seconds",
    "peak_memory_bytes",
)
PAPER = ("baseline", "weighted_softmax", "confusion_driven", "cdml")
CONTROLS = (
    "composition_only",
    "triplets_only",
    "uniform_pairs",
    "inverse_frequency",
    "class_balanced",
    "focal",
    "batch_hard",
    "semi_hard",
    "pair_costs",
    "pair_costs_triplets",
)
# Twenty steps in two epochs, so that the second one uses the confusion of the first.
SHORT = (
    "--config.data.holdout_fraction=0.63",
    "--config.epochs=2",
    "--config.warmup_epochs=0",
    "--config.sampling.composed=0.5",
)


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two trees, staged so that `python -m cdml_jax` runs it."""

    name: str
    site: Path
    runs: Path
    names: dict[str, str]  # of today -> of the side's time

    def environment(self) -> dict[str, str]:
        """Environment in which the tree's package is the one that is imported."""
        caches = {"CDML_DATA_DIR": str(self.site.parent / "data"), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        return os.environ | caches | {"PYTHONPATH": str(self.site)}

    def cdml(self, *arguments: str) -> str:
        """Standard output of a command."""
        return self.python("-m", "cdml_jax", *arguments)

    def python(self, *arguments: str) -> str:
        """Standard output of Python with the tree's package."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(),
            cwd=self.runs,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def train(self, method: str, folder: str, *overrides: str) -> Path:
        """Workdir of a method trained on the demo's birds under seed 0."""
        workdir = self.runs / folder
        if not (workdir / "finished").exists():
            self.cdml(*self.train_arguments(method, folder, *overrides))
            (workdir / "finished").touch()
        return workdir

    def train_arguments(self, method: str, folder: str, *overrides: str) -> tuple[str, ...]:
        """Arguments of `cdml` that train it."""
        chosen = self._named("--config.method=") + method
        overrides = tuple(map(self._named, overrides))
        return "train", "--config=demo", chosen, f"--workdir={self.runs / folder}", *overrides

    def _named(self, override: str) -> str:
        """An override of today with the names of the side's time."""
        words = re.split(r"(\W)", override)
        return "".join(self.names.get(word, word) for word in words)


def stage(tree: Path, site: Path) -> None:
    """Copy a tree's package, its configurations inside, to `site`."""
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(tree / "cdml_jax", site / "cdml_jax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tree / "configs", site / "cdml_jax" / "configs")


def renamed(value: Any) -> Any:
    """A value of the earlier commit with today's keys and names."""
    if isinstance(value, dict):
        return {RENAMED.get(key, key): renamed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner) for inner in value]
    return RENAMED.get(value, value) if isinstance(value, str) else value


def without(value: Any, keys: tuple[str, ...]) -> Any:
    """A value without some keys, at any depth."""
    if isinstance(value, dict):
        return {key: without(inner, keys) for key, inner in value.items() if key not in keys}
    return [without(inner, keys) for inner in value] if isinstance(value, list) else value


class Differences:
    """What was compared, and what differs."""

    def __init__(self) -> None:
        self.compared, self.found = 0, 0

    def equal(self, what: str, before: Any, now: Any) -> None:
        """Note whether two values, made of plain types and arrays, are equal to the bit."""
        self.compared += 1
        where = _first_difference(before, now)
        if where is not None:
            self.found += 1
            print(f"DIFFERS  {what}{where}", flush=True)
        else:
            print(f"equal    {what}", flush=True)


def _first_difference(before: Any, now: Any) -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys(), key=str):
            if key not in before or key not in now:
                return f".{key}: only {'before' if key in before else 'now'}"
            where = _first_difference(before[key], now[key])
            if where is not None:
                return f".{key}{where}"
        return None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (one, other) in enumerate(zip(before, now)):
            where = _first_difference(one, other)
            if where is not None:
                return f"[{place}]{where}"
        return None
    if isinstance(before, np.ndarray) or isinstance(now, np.ndarray):
        one, other = np.asarray(before), np.asarray(now)
        same = (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()
        return None if same else f": {one.dtype} {one.shape} and {other.dtype} {other.shape}"
    return None if before == now else f": {before!r} before, {now!r} now"


def last_checkpoint(workdir: Path) -> dict[str, Any]:
    """Checksums and layout of every array of a run's last checkpoint, and where it stands."""
    steps = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()]
    folder = workdir / "checkpoints" / str(max(steps)) / "meta"
    meta = json.loads((folder / "metadata").read_text())
    return {"step": max(steps), **{key: meta[key] for key in ("checksums", "layout", "epoch")}}


def history(workdir: Path) -> list[dict[str, Any]]:
    """A run's log without what is measured in seconds."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [without(json.loads(line), MEASURED_IN_SECONDS) for line in lines]


def arrays_of(side: Side, workdir: Path) -> dict[str, np.ndarray]:
    """Parameters, batch statistics and counts of a trained run, by the public `load`."""
    side.python("-c", _LOAD, str(workdir), str(workdir / "arrays.npz"))
    with np.load(workdir / "arrays.npz") as arrays:
        return dict(arrays)


_LOAD = """
import sys, jax, numpy as np, cdml_jax
weights = cdml_jax.load(sys.argv[1]).weights
leaves = jax.tree.leaves((weights.parameters, weights.batch_statistics, weights.counts))
np.savez(sys.argv[2], *[np.asarray(leaf) for leaf in leaves])
"""


def compare_runs(what: str, sides: tuple[Side, Side], found: Differences, *workdirs: Path) -> None:
    """Final state, log and configuration of a run on both sides."""
    before, now = workdirs
    found.equal(f"{what}: last checkpoint", renamed(last_checkpoint(before)), last_checkpoint(now))
    found.equal(f"{what}: log", renamed(history(before)), without(history(now), ADDED))


def table(sides: tuple[Side, Side], found: Differences) -> None:
    """The demo's table: 4 methods, 3 seeds."""
    folders = []
    for side in sides:
        folder = side.runs / "table"
        if not (folder / "finished").exists():
            printed = side.cdml("reproduce", "--config=demo", f"--workdir={folder}")
            lines = [line for line in printed.splitlines() if line.startswith("|")]
            (folder / "printed.json").write_text(json.dumps(lines))
            (folder / "finished").touch()
        folders.append(folder)
    before, now = folders
    printed = [json.loads((folder / "printed.json").read_text()) for folder in folders]
    found.equal("table as printed", *printed)
    both = [json.loads((folder / "rows.json").read_text()) for folder in folders]
    left_out = (*MEASURED_IN_SECONDS, *ADDED)
    found.equal("table: rows.json", renamed(without(both[0], left_out)), without(both[1], left_out))
    for path in sorted((before / "results").glob("*.json")):
        with np.load(path.with_suffix(".npz")) as one, np.load(now / "results" / f"{path.stem}.npz") as other:
            both = [json.loads(path.read_text()), json.loads(other["record"].tobytes())]
            found.equal(
                f"table: {path.stem}", renamed(without(both[0], left_out)), without(both[1], left_out)
            )
            found.equal(f"table: counts of {path.stem}", dict(one), {name: other[name] for name in one.files})


def parameters(sides: tuple[Side, Side], found: Differences) -> None:
    """Final parameters of the paper's four methods under seed 0, and what they export."""
    for method in PAPER:
        before, now = (side.train(method, method) for side in sides)
        compare_runs(method, sides, found, before, now)
        found.equal(f"{method}: arrays", arrays_of(sides[0], before), arrays_of(sides[1], now))
    outputs = []
    for side in sides:
        file = side.runs / "cdml.jax"
        side.cdml("export", f"--workdir={side.runs / 'cdml'}", f"--out={file}")
        side.python("-c", _CALL, str(file), str(side.runs / "exported.npz"))
        with np.load(side.runs / "exported.npz") as arrays:
            outputs.append(dict(arrays))
    found.equal("export: outputs on noise", *outputs)


_CALL = """
import sys, jax, numpy as np
from jax import export
called = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
side = called.in_avals[0].shape[1]
images = np.random.default_rng(0).integers(0, 256, (7, side, side, 3), np.uint8)
outputs = jax.jit(called.call)(images)
np.savez(sys.argv[2], *[np.asarray(a) for a in jax.tree.leaves(outputs)])
"""


def controls(sides: tuple[Side, Side], found: Differences) -> None:
    """Twenty steps of each control, hard and soft counts, and the storages other than dense."""
    runs: dict[str, tuple[str, tuple[str, ...]]] = {method: (method, ()) for method in CONTROLS}
    runs |= {
        "cdml_hard": ("cdml", ("--config.confusion.counts=hard", "--config.confusion.decay=0.0")),
        "cdml_by_class": ("cdml", ("--config.confusion.storage=by_class",)),
        "cdml_top": ("cdml", ("--config.confusion.storage=top", "--config.confusion.top_k=8")),
        "cdml_holdout": ("cdml", ("--config.confusion.source=holdout",)),
        "cdml_accumulated": ("cdml", ("--config.accumulation=2",)),
    }
    for name, (method, overrides) in runs.items():
        before, now = (side.train(method, f"short_{name}", *SHORT, *overrides) for side in sides)
        compare_runs(f"20 steps, {name}", sides, found, before, now)


def plans(sides: tuple[Side, Side], found: Differences) -> None:
    """Ten epochs' plans at three settings."""
    made = []
    for side in sides:
        side.python("-c", _PLANS, str(side.runs / "plans.npz"))
        with np.load(side.runs / "plans.npz") as arrays:
            made.append(dict(arrays))
    found.equal("plans", *made)


_PLANS = """
import sys, numpy as np, cdml_jax
from cdml_jax import confusion
plans = {}
settings = [(11, 24, 0.5, 4, 4), (30, 48, 0.25, 2, 3), (7, 16, 0.0, 4, 4)]
for number, (classes, batch, composed, images, group) in enumerate(settings):
    draw = np.random.default_rng(number)
    labels = draw.integers(0, classes, 40 * classes).astype(np.int32)
    counts = draw.integers(0, 30, (classes, classes)).astype(np.float32)
    rates = np.asarray(confusion.class_weights(counts, normalize=False))
    pairs = np.asarray(confusion.pair_weights(counts))
    for epoch in range(10):
        plans[f"{number}-{epoch}"] = cdml_jax.plan_epoch(
            number, epoch, labels, rates, pairs, batch_size=batch, composed=composed,
            images_per_class=images, classes_per_group=group)
np.savez(sys.argv[1], **plans)
"""


def killed(sides: tuple[Side, Side], found: Differences) -> None:
    """A run that was killed and run again ends as one that was left alone, on both sides."""
    ends = []
    for side in sides:
        arguments = side.train_arguments("cdml", "killed", *SHORT, "--config.checkpoint.every_seconds=0.0")
        folder = side.runs / "killed"
        if not (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _kill_in_the_middle(side, arguments, folder)
            side.cdml(*arguments)
            (folder / "finished").touch()
        alone = side.train("cdml", "alone", *SHORT, "--config.checkpoint.every_seconds=0.0")
        found.equal(f"{side.name}: killed and alone", last_checkpoint(folder), last_checkpoint(alone))
        ends.append(last_checkpoint(folder))
    found.equal("killed: both sides", renamed(ends[0]), ends[1])


def _kill_in_the_middle(side: Side, arguments: tuple[str, ...], folder: Path) -> None:
    command = [sys.executable, "-m", "cdml_jax", *arguments]
    process = subprocess.Popen(
        command, env=side.environment(), cwd=side.runs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        if any(path.name.isdecimal() and int(path.name) >= 5 for path in folder.glob("checkpoints/*")):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    process.wait()


def times(sides: tuple[Side, Side], found: Differences, alternations: int) -> None:
    """Seconds to the first step's end and milliseconds a step, the sides in turn."""
    arguments = (*SHORT[:1], "--config.epochs=4", "--config.warmup_epochs=1")
    measured: dict[str, list[list[float]]] = {"whole command, s": [[], []], "step, ms": [[], []]}
    for turn in range(alternations + 1):
        for place in (0, 1) if turn % 2 else (1, 0):
            side = sides[place]
            shutil.rmtree(side.runs / "times", ignore_errors=True)
            began = time.monotonic()
            side.cdml(*side.train_arguments("cdml", "times", *arguments))
            seconds = time.monotonic() - began
            if turn:  # the first fills the caches
                log = (side.runs / "times" / "metrics.jsonl").read_text().splitlines()
                steps = [json.loads(line)["step_ms_p50"] for line in log[1:]]
                measured["whole command, s"][place].append(seconds)
                measured["step, ms"][place].append(statistics.median(steps))
    for what, (before, now) in measured.items():
        ratio = statistics.median(b / a for a, b in zip(before, now))
        print(
            f"{what}: {statistics.median(before):.2f} before, {statistics.median(now):.2f} now; "
            f"median of {len(now)} ratios {ratio:.3f}",
            flush=True,
        )
        found.equal(f"{what}: at most a tenth slower", True, ratio <= 1.1)


PARTS: dict[str, Callable[[tuple[Side, Side], Differences], None]] = {
    "plans": plans,
    "controls": controls,
    "killed": killed,
    "parameters": parameters,
    "table": table,
}


def main() -> int:
    """Run the parts asked for; 1 if anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True, help="the earlier commit")
    parser.add_argument("--out", type=Path, required=True, help="a folder for both sides' runs")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas; also times")
    parser.add_argument("--alternations", type=int, default=20)
    options = parser.parse_args()
    out = options.out.absolute()
    tree = out / "tree"
    subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=REPOSITORY, capture_output=True)
    subprocess.run(
        ["git", "worktree", "add", "--detach", str(tree), options.base], cwd=REPOSITORY, check=True
    )
    try:
        for name, source in (("before", tree), ("now", REPOSITORY)):
            stage(source, out / name)
            if name == "now":
                shutil.rmtree(out / "now_runs", ignore_errors=True)
            (out / f"{name}_runs").mkdir(parents=True, exist_ok=True)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=REPOSITORY, check=True)
    sides = (
        Side("before", out / "before", out / "before_runs", {now: before for before, now in RENAMED.items()}),
        Side("now", out / "now", out / "now_runs", {}),
    )
    found = Differences()
    for part in options.only.split(","):
        if part == "times":
            times(sides, found, options.alternations)
        else:
            PARTS[part](sides, found)
    print(f"{found.compared} comparisons, {found.found} differ")
    return 1 if found.found else 0


if __name__ == "__main__":
    sys.exit(main())
