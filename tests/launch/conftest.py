"""Launchers are run as processes of their own, with other commands in place of those of a cluster."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
COUNTING = Path(__file__).with_name("counting.sh")


class Launcher:
    """Runs launchers in `folder`, with `folder`/bin before the machine's commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.calls_file = folder / "calls"
        self.calls_file.touch()

    def fake(self, name: str, body: str) -> None:
        """A command that notes its arguments, then runs `body` (bash)."""
        path = self.bin / name
        path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>"{self.calls_file}"\n{body}\n')
        path.chmod(0o755)

    def calls(self, name: str = "") -> list[str]:
        return [line for line in self.calls_file.read_text().splitlines() if line.startswith(name)]

    def environment(self, **variables: object) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("CDML_", "SLURM_", "SBATCH_", "JAX_"))
        }
        kept |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "TMPDIR": str(self.folder)}
        kept.pop("DRY_RUN", None)
        return kept | {k: str(v) for k, v in variables.items()}

    def start(self, script: str, *arguments: str, **variables: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(LAUNCH / script), *arguments],
            cwd=self.folder,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Started in a script's background, the tests would ignore Ctrl-C, and bash then for good.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def __call__(self, script: str, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
        process = self.start(script, *arguments, **variables)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def refused(self, script: str, *arguments: str, **variables: object) -> str:
        """The one line that refuses; nothing is called."""
        result = self(script, *arguments, **variables)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert self.calls() == []
        return result.stderr.strip()


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


@pytest.fixture
def counting() -> str:
    """Stands in for cdml."""
    return str(COUNTING)
