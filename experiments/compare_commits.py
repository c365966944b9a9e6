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
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from commit_sides import (
    ADDED,
    MEASURED_IN_SECONDS,
    NEIGHBOURS,
    RENAMED,
    Differences,
    Side,
    arrays_of,
    compare_runs,
    last_checkpoint,
    renamed,
    stage,
    without,
)

REPOSITORY = Path(__file__).resolve().parent.parent

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
    left_out = (*MEASURED_IN_SECONDS, *ADDED, *NEIGHBOURS)
    found.equal("table: rows.json", renamed(without(both[0], left_out)), without(both[1], left_out))
    apart = [
        abs(one[key] - other[key])
        for one, other in zip(*both)
        for key in NEIGHBOURS
        if one.get(key) is not None
    ]
    found.equal(f"table: {len(apart)} figures of neighbours within 2e-6", True, max(apart) < 2e-6)
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
