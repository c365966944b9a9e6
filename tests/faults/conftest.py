"""Processes of the real command on one machine: started together, never waited for without a limit."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from photographs import write_photographs

SMALL = Path(__file__).with_name("small.py")
LONGEST = 240  # seconds that a run may take on a busy machine


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Three classes in two families, of 20 images each: 42 are trained on, 12 for validation."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 20, np.random.default_rng(0))
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of every process: what one has compiled serves the others and later starts."""
    folder = tmp_path_factory.mktemp("cache")
    return os.environ | {
        "CDML_DATA_DIR": str(folder / "data"),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
    }


class Together:
    """Processes of one run; leaving the block kills what is left of them."""

    def __init__(self, command, environments, places, folder):
        self.said = [folder / f"said-{time.monotonic_ns()}-{index}" for index in range(len(places))]
        self.processes = []
        for variables, place, said in zip(environments, places, self.said, strict=True):
            with said.open("w") as output:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "cdml_jax", *map(str, command)],
                        env=variables,
                        cwd=place,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def texts(self):
        return [path.read_text() for path in self.said]

    def until(self, condition):
        """Return once `condition()` holds, while all processes live."""
        end = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < end, self.texts()
            assert all(process.poll() is None for process in self.processes), self.texts()
            time.sleep(0.02)

    def listens(self, index):
        """Whether the process has its own answer to SIGTERM."""
        text = Path(f"/proc/{self.processes[index].pid}/status").read_text()
        caught = next(line.split()[1] for line in text.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def statuses(self, limit=LONGEST):
        """Exit statuses of all, which end within `limit` seconds."""
        end = time.monotonic() + limit
        try:
            return [process.wait(max(0.0, end - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            pytest.fail(f"not ended within {limit} s: {self.texts()}")


@pytest.fixture(scope="session")
def start(photographs, environment, tmp_path_factory):
    """`start(workdir, processes, devices, *arguments)`: `cdml train` as so many processes of one run.

    `places` are the working directories, in which each looks for the photographs.
    """
    folder = tmp_path_factory.mktemp("said")

    def start(workdir, processes, devices, *arguments, config=SMALL, double=False, places=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        each = environment | {"JAX_NUM_CPU_DEVICES": str(devices)}
        if double:
            each |= {"JAX_ENABLE_X64": "1"}
            arguments = ("--config.model.dtype=float64", *arguments)
        if processes > 1:
            each |= {"CDML_COORDINATOR": f"127.0.0.1:{port}", "CDML_NUM_PROCESSES": str(processes)}
        command = ["train", f"--config={config}", f"--workdir={workdir}", *arguments]
        return Together(
            [*command, f"--config.source=folder:{photographs.name}"],
            [each | {"CDML_PROCESS_ID": str(index)} if processes > 1 else each for index in range(processes)],
            places or [photographs.parent] * processes,
            folder,
        )

    return start


@pytest.fixture(scope="session")
def trained(start):
    """As `start`, but to the end; gives the log's entries and what each process said."""

    def trained(workdir, *arguments, **options):
        with start(workdir, *arguments, **options) as run:
            assert set(run.statuses()) == {0}, run.texts()
            return log_of(workdir), run.texts()

    return trained


def log_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
