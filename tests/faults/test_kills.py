"""The proof that anyone can run, with two kills in place of fifty."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).with_name("small.py")


@pytest.mark.program
def test_a_run_survives_kills_at_random_moments_bitwise(photographs, environment, tmp_path):
    proved = subprocess.run(
        [
            sys.executable,
            ROOT / "launch" / "prove_kills.py",
            "--kills=2",
            f"--workdir={tmp_path}",
            f"--config={SMALL}",
            f"--config.source=folder:{photographs}",
            "--config.epochs=60",
            "--config.evaluate_every=20",
            "--config.checkpoint.every_seconds=0.2",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert re.match(r"2 of 2 kills survived, bitwise, in \d+ runs", proved.stdout.splitlines()[-1])
