"""The plan of the house holds: who may import whom, and how large a room may grow."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cdml_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
SIBLINGS, LINES, CODE_LINES = 12, 320, 70


def test_imports_follow_the_layers():
    """Contracts and layers stand in pyproject.toml."""
    command = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_read_in_one_sitting(file):
    text = file.read_text()
    assert len(text.splitlines()) <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= CODE_LINES, f"{node.name} has {lines} lines of code"


@pytest.mark.parametrize("folder", ["training", "data"])
def test_a_folder_is_seen_at_a_glance(folder):
    siblings = [
        path.name
        for path in (PACKAGE / folder).iterdir()
        if path.name not in ("__init__.py", "__pycache__") and (path.is_dir() or path.suffix == ".py")
    ]
    assert len(siblings) <= SIBLINGS, sorted(siblings)


@pytest.mark.parametrize(
    ("types", "home"),
    [
        (r"\w*(Confusions?|PairWeights)", "confusion"),
        (r"(Feature|Cached)Source|\w+Feed", "data"),
    ],
    ids=["confusion and pair weights", "feeds"],
)
def test_a_form_is_asked_for_inside_its_own_room_alone(types, home):
    asked = re.compile(rf"isinstance\([^)]*\b(?:{types})\b")
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in FILES
        if home not in file.relative_to(PACKAGE).parts
        for line in file.read_text().splitlines()
        if asked.search(line)
    ]
    assert not found


def test_configurations_are_typed_beyond_the_door():
    found = [
        str(file.relative_to(ROOT))
        for file in FILES
        if "ml_collections" in file.read_text() and file != PACKAGE / "configuration" / "load.py"
    ]
    assert not found


def test_names_that_look_things_up_have_no_silent_default():
    silent = re.compile(r"(config|settings)\w*\.get\(")
    assert not [file for file in FILES if silent.search(file.read_text())]
