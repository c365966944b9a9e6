"""From the command to the end of the first training step: `cdml train` beside a PyTorch script.

    python benchmarks/start_up.py [--repeats=5] [--json=FILE]

Every start is a new process. Cold ones find an empty folder for what they compile (JAX's compilation cache,
inductor's and Triton's), warm ones what a start before them has left there. Ours is the demo with its real
images, drawn beforehand, and its real weights, all checks and lines of a run included; the peer, with random
images in memory, has no more than the same network, objective and optimiser, eager or by torch.compile.
A run ends when it has said that its first step is done. Beside the time on the clock stands the processors'
time, which neighbours on a shared machine disturb less.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import ALL_SIDES, compare, keep, machine

DONE = "The first step was done"
HERE = Path(__file__).parent
_CDML = "import sys; from cdml_jax.cli import start; sys.exit(start())"  # what the script `cdml` holds
COMMANDS = {
    "ours": ["-c", _CDML, "train", "--config=demo"],
    "torch.compile": [str(HERE / "torch_start_up.py"), "--compile"],
    "torch, eager": [str(HERE / "torch_start_up.py")],
}


def start(name: str, cache: Path) -> tuple[float, float]:
    """Seconds to the first step's end, on the clock and of processors, those of compilers included.

    Raises:
      RuntimeError: it ended before; with the last line that it wrote.
    """
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",  # as `compilation_cache` has it
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, *COMMANDS[name]]
        if name == "ours":
            command.append(f"--workdir={workdir}/run")
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        last = "nothing"
        for line in process.stdout:
            last = line.strip() or last
            if DONE in line:
                seconds, family = time.perf_counter() - began, _family(process.pid)
                for member in family:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(member, signal.SIGKILL)
                process.wait()
                return seconds, sum(family.values()) / os.sysconf("SC_CLK_TCK")
        raise RuntimeError(f"status {process.wait()}: {last}")


def _family(process: int) -> dict[int, int]:
    """A process and its descendants, each with its processor time and its ended children's, in ticks."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        number = int(stat.parent.name)
        parents[number], ticks[number] = int(fields[1]), sum(map(int, fields[11:15]))
    family = [process]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return {member: ticks.get(member, 0) for member in family}


def measure(repeats: int) -> dict:
    """Cold and warm starts of every side, in turn."""
    taken: dict[str, dict[str, list[tuple[float, float]]]] = {}
    skipped = {}
    for _ in range(repeats):
        for name in COMMANDS:
            if name in skipped:
                continue
            with tempfile.TemporaryDirectory() as cache:
                kinds = ("warm",) if name == "torch, eager" else ("cold", "warm")  # eager compiles nothing
                try:
                    for kind in kinds:
                        one = start(name, Path(cache))
                        taken.setdefault(name, {}).setdefault(kind, []).append(one)
                        print(f"{name}, {kind}: {one[0]:.1f} s, of processors {one[1]:.1f} s", flush=True)
                except RuntimeError as error:
                    if name == "ours":
                        raise
                    skipped[name] = str(error)
                    taken.pop(name, None)
                    print(f"{name} is skipped: {error}")
    sides: dict[str, dict] = {}
    for name, kinds_taken in taken.items():
        for kind, runs in kinds_taken.items():
            seconds, used = ([run[part] for run in runs] for part in (0, 1))
            sides.setdefault(name, {})[kind] = {
                "seconds": round(statistics.median(seconds), 2),
                "processor_seconds": round(statistics.median(used), 2),
                **compare(seconds, [run[0] for run in taken["ours"][kind]]),
            }
    return {"sides": sides, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:  # draws the demo's images, warms the system's file cache
        for name in COMMANDS:
            try:
                start(name, Path(cache))
            except RuntimeError as error:
                print(f"{name}: {error}")
    result = {
        "question": "seconds from the command to the end of the first training step",
        "repeats": options.repeats,
        **measure(options.repeats),
        **machine(),
    }
    print(json.dumps(result, indent=1))
    keep(result, options.json, ALL_SIDES if result["skipped"] else "")


if __name__ == "__main__":
    main()
