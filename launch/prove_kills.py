"""Kill a run with SIGKILL again and again, at random moments and inside saves; show that nothing is lost.

    python launch/prove_kills.py --kills=50

Trains the demo undisturbed, then again under kills, each time with the same `cdml train` command; when a
disturbed run has ended, every array of its last checkpoint must have the bytes of the undisturbed one's.
A kill is survived if the next start continues at the newest checkpoint that was complete when the kill came,
or later, and the run ends so. Arguments that begin with --config are handed to `cdml train`. Exit status 1 if
any is not.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np

SMALL = [
    "--config=demo",
    "--config.epochs=40",
    "--config.warmup_epochs=2",
    "--config.evaluate_every=20",
    "--config.checkpoint.every_seconds=0.5",
]
MOMENTS = {"any": 0.4, "saving": 0.45, "starting": 0.15}  # how often each kind of moment is chosen
LONGEST_WAIT = 120.0  # seconds for what a moment needs: a start or a save


@dataclasses.dataclass
class Kill:
    """One kill: its moment, the newest complete checkpoint then, and where the next start went on."""

    moment: str
    saved: int
    continued: int | None = None


class Life:
    """One process of `cdml train`, from its start to its end or its kill."""

    def __init__(self, arguments: list[str], workdir: Path, environment: dict[str, str]):
        command = [sys.executable, "-m", "cdml_jax", "train", *arguments, f"--workdir={workdir}"]
        self.checkpoints, self.lines = workdir / "checkpoints", []
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def alive(self) -> bool:
        return self.process.poll() is None

    def continued(self) -> int | None:
        """The step that it said it continues at."""
        found = [re.search(r"continuing at step (\d+)", line) for line in list(self.lines)]
        return next((int(match[1]) for match in found if match), None)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        status = self.process.wait()
        self.reader.join()
        return status


def complete(checkpoints: Path) -> list[int]:
    """Steps of the checkpoints that are complete; one in the making has another name."""
    return [int(p.name) for p in checkpoints.glob("*") if p.name.isdecimal()]


def saving(checkpoints: Path) -> bool:
    return any(checkpoints.glob("*orbax-checkpoint-tmp*"))


def await_moment(life: Life, moment: str, rng: random.Random) -> None:
    """Return at the moment, or when the process has ended or does not get there."""
    if moment == "starting":
        time.sleep(rng.uniform(0.5, 8))
        return
    before, end = complete(life.checkpoints), time.monotonic() + LONGEST_WAIT
    let_pass, inside = rng.randrange(6), False
    while life.alive() and time.monotonic() < end:
        begins, inside = saving(life.checkpoints) and not inside, saving(life.checkpoints)
        let_pass -= begins
        if moment == "saving" and begins and let_pass < 0:
            time.sleep(rng.uniform(0, 0.15))
            return
        if moment == "any" and complete(life.checkpoints) != before:
            time.sleep(rng.uniform(0, 4))
            return
        time.sleep(0.003)


def disturb(
    arguments: list[str], workdir: Path, environment: dict[str, str], kills: int, rng: random.Random
) -> list[Kill]:
    """Runs to the end under at most `kills` kills; gives those that happened."""
    done: list[Kill] = []
    while True:
        life = Life(arguments, workdir, environment)
        if len(done) < kills:
            moment = rng.choices(list(MOMENTS), list(MOMENTS.values()))[0]
            await_moment(life, moment, rng)
            killed = life.alive()
            caught = "saving" if saving(life.checkpoints) else "starting" if moment == "starting" else "any"
            if killed:
                os.killpg(life.process.pid, signal.SIGSTOP)  # so that what is on disk is looked at as it is
                kill = Kill(caught, max(complete(life.checkpoints), default=0))
                life.kill()
        else:
            life.wait()
            killed = False
        if done and done[-1].continued is None and (life.continued() is not None or not killed):
            for earlier in reversed(done):
                if earlier.continued is not None:
                    break
                earlier.continued = life.continued() or 0
        if not killed:
            if life.process.returncode:
                sys.exit("\n".join(["the run failed:", *life.lines[-20:]]))
            return done
        done.append(kill)
        print(f"  kill {len(done)} ({kill.moment}), newest checkpoint {kill.saved}", flush=True)


def arrays(workdir: Path) -> dict[str, bytes]:
    """Every array of the last checkpoint, by name, as bytes."""
    import orbax.checkpoint as ocp

    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with ocp.CheckpointManager((workdir / "checkpoints").absolute()) as manager:
        step = manager.latest_step()
        saved = ocp.StandardCheckpointer().metadata(workdir.absolute() / "checkpoints" / str(step) / "run")
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), saved.item_metadata.tree
        )
        tree = manager.restore(step, args=ocp.args.Composite(run=ocp.args.StandardRestore(target)))["run"]
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        leaves[jax.tree_util.keystr(path)] = np.asarray(jax.random.key_data(leaf) if key else leaf).tobytes()
    return leaves


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--workdir", type=Path, help="kept; a temporary folder if not given")
    options, rest = parser.parse_known_args()
    arguments = rest if any(a.startswith("--config=") for a in rest) else [*SMALL, *rest]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.workdir or Path(temporary)
        compiled = str(folder / "compiled")
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": compiled, "PYTHONUNBUFFERED": "1"}
        began = time.monotonic()
        first = Life(arguments, folder / "undisturbed", environment)
        if first.wait():
            sys.exit("\n".join(["the undisturbed run failed:", *first.lines[-20:]]))
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        expected = arrays(folder / "undisturbed")
        rng, kills, survived, runs = random.Random(options.seed), [], 0, 0
        while len(kills) < options.kills:
            runs += 1
            workdir = folder / f"disturbed-{runs}"
            done = disturb(arguments, workdir, environment, options.kills - len(kills), rng)
            differing = [name for name, value in arrays(workdir).items() if expected.get(name) != value]
            same = not differing and arrays(workdir).keys() == expected.keys()
            lost = [kill for kill in done if kill.continued is None or kill.continued < kill.saved]
            survived += len(done) - len(lost) if same else 0
            kills += done
            verdict = "bitwise equal" if same else f"{len(differing)} arrays differ: {differing[:3]}"
            print(
                f"run {runs}: {len(done)} kills, end {verdict}; {len(lost)} kills lost a checkpoint",
                flush=True,
            )
            if not done:
                sys.exit("the run ends before any kill: raise --config.epochs")
        by_moment = {moment: sum(kill.moment == moment for kill in kills) for moment in MOMENTS}
        print(
            f"{survived} of {len(kills)} kills survived, bitwise, in {runs} runs and "
            f"{time.monotonic() - began:.0f} s; while saving {by_moment['saving']}, starting "
            f"{by_moment['starting']}, else {by_moment['any']}"
        )
    sys.exit(survived != len(kills))


if __name__ == "__main__":
    main()
