"""What is installed from a wheel: every module, the configurations, the weights, the page's templates."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.program
def test_a_wheel_holds_every_module_and_every_configuration(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("cdml_jax", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--quiet", f"--wheel-dir={tmp_path}"]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(source)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cdml_jax").rglob("*.py")}
    expected |= {f"cdml_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "cdml_jax").rglob("*.safetensors")}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "cdml_jax").rglob("templates/*")}
    assert expected <= held
    assert "cdml_jax/py.typed" in held
    entry_points = next(name for name in held if name.endswith("entry_points.txt"))
    assert "cdml = cdml_jax.cli:start" in zipfile.ZipFile(wheel).read(entry_points).decode()
