"""What holds for every script of launch/."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_is_clean():
    tests = sorted(Path(__file__).parent.glob("*.sh"))
    result = subprocess.run(
        ["shellcheck", "--external-sources", *map(str, [*SCRIPTS, *tests])], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_stops_at_an_error_and_can_be_started(script):
    text = script.read_text()
    if script.name == "common.sh":  # is sourced
        return
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert script.suffix == ".sbatch" or os.access(script, os.X_OK)


def test_words_are_quoted_so_that_a_shell_reads_them_back(launch):
    words = ["a b", "c'd", '"e"', "$HOME", "--flag=x y", "--plain=1", "", "*", "-x=a b"]
    result = launch("local.sh", "train", "--workdir=w", *words, DRY_RUN=1, CDML_PROCESSES=1)
    command = result.stdout.partition(" cdml train --workdir=w ")[2]
    read_back = subprocess.run(
        ["bash", "-c", f'for word in {command.strip()}; do printf "%s\\n" "$word"; done'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read_back.stdout.splitlines() == words
    assert "--flag='x y'" in command


def test_proof_of_slurm_says_what_it_would_do(launch):
    result = launch("prove_slurm.sh", "train", "--config=demo", DRY_RUN=1)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("apt-get install")
    assert lines[0].endswith("slurmctld slurmd slurm-client munge")
    assert "ProctrackType=proctrack/linuxproc" in lines
    assert sum(line.startswith("sbatch ") for line in lines) == 3
    assert any("--time=3 " in line and "--ntasks-per-node=2" in line for line in lines)
    assert "scontrol requeue JOB" in lines


def test_proof_of_slurm_keeps_its_own_folder(launch):
    assert "leave --workdir out" in launch.refused("prove_slurm.sh", "train", "--workdir=runs/a", DRY_RUN=1)
