"""Two commits that run the same commands, and what they leave compared to the bit."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Keys and names before, and what they are called now: in configurations, logs, results and checkpoints.
RENAMED: dict[str, str] = {"row": "method", "rows": "methods", "by_row": "by_class"}
# Keys whose values are new here, so that there is nothing to compare them with.
ADDED: tuple[str, ...] = ("provenance", "names", "unresolved", "test_unresolved")
# Figures of nearest neighbours, which are exact now: 2e-6 apart at most where they were not.
NEIGHBOURS = ("map_at_r", "r_precision", "test_map_at_r", "test_r_precision")
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
