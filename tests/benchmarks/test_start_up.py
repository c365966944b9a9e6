"""A start is timed to the line that says so, whatever the process does then."""

import importlib
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
PROGRAM = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
end = time.process_time() + 0.3
while time.process_time() < end: pass
print("The first step was done 1.0 s after the start.", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start_up(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("start_up")


def test_a_start_is_timed_to_its_line_and_ended_there_with_its_children(start_up, monkeypatch, tmp_path):
    monkeypatch.setitem(start_up.COMMANDS, "torch, eager", ["-c", PROGRAM])
    found = []
    family = start_up._family
    monkeypatch.setattr(start_up, "_family", lambda process: found.append(family(process)) or found[-1])
    began = time.perf_counter()
    seconds, used = start_up.start("torch, eager", tmp_path)
    assert 0.3 < seconds < time.perf_counter() - began
    assert used > 0.3
    assert len(found[0]) == 2
    for member in found[0]:
        stat = Path(f"/proc/{member}/stat")
        deadline = time.monotonic() + 10
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_side_that_ends_early_says_why(start_up, monkeypatch, tmp_path):
    monkeypatch.setitem(start_up.COMMANDS, "torch.compile", ["-c", "import torch_that_is_not_there"])
    with pytest.raises(RuntimeError, match="status 1: ModuleNotFoundError"):
        start_up.start("torch.compile", tmp_path)
