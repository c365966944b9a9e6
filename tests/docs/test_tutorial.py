"""docs/tutorial.md, read from the page and done from its first command to its last."""

import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import jax
import pytest

from cdml_jax.cli import main as cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
QUICK = next(shlex.split(code) for kind, code in BLOCKS if code.startswith("--config.model.name"))
NUMBER = re.compile(r"[-+]?\d[\d,.]*")


def shown(line, names):
    """A pattern of a line of the page: any numbers, any class for a class, anything for …."""
    for name in sorted(names, key=len, reverse=True):
        line = line.replace(name, "\0")
    pattern = NUMBER.sub("\1", line.replace(" …", "\2"))
    pattern = re.escape(pattern)
    for mark, what in (
        ("\0", "(?:" + "|".join(map(re.escape, names)) + ")"),
        ("\1", r"[-+]?[\d.,]+"),
        ("\2", ".*"),
    ):
        pattern = pattern.replace(re.escape(mark), what)
    return re.compile(re.sub(r"(?:\\ )+", r"\\s+", pattern))


def run_line(line, monkeypatch):
    """One command of the page, in this process; `> FILE` is the caller's."""
    words = shlex.split(line)
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", [words[1], *words[2:], "--images=8"])
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(Path(words[1]).parent))
            runpy.run_path(words[1], run_name="__main__")
        return
    assert words[0] == "cdml"
    assert cli.main([*words[1:], *(QUICK if words[1] == "train" else [])]) == 0, line


def test_the_tutorial_can_be_followed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("plotly", reason="the page of a run needs the extra report")
    monkeypatch.setenv("CDML_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "examples", "examples")
    two = jax.devices()[:2]
    monkeypatch.setattr(jax, "devices", lambda: two)
    monkeypatch.setattr(jax, "local_devices", lambda: two)
    names, printed, checked = [], "", 0
    for kind, code in BLOCKS:
        if kind == "sh" and not code.startswith("pip "):
            printed = ""
            for line in code.splitlines():
                command, _, into = line.partition(" > ")
                run_line(command, monkeypatch)
                captured = capsys.readouterr()
                if into:
                    Path(into).write_text(captured.out)
                printed += captured.out + captured.err
            names = names or [path.name for path in Path("birds").glob("*/*")]
        elif kind == "python":
            exec(compile(code, "docs/tutorial.md", "exec"), {})
            assert "%" in capsys.readouterr().out
        elif kind == "text" and not code.startswith("--config"):
            lines = printed.splitlines()
            for line in code.splitlines():
                assert any(shown(line, names).fullmatch(given) for given in lines), (line, printed)
                checked += 1
    assert checked > 20
    rows = Path("answers.csv").read_text().splitlines()
    assert len(rows) == 17
    assert {"runs/birds/report.html", "both.html", "birds.jax"} <= set(_files())


def _files():
    return [str(path) for path in Path(".").rglob("*.*")]


def test_a_line_of_the_page_is_held_to_its_words():
    assert shown("12.5% of owl are called crow (1 of 8)", ["owl", "crow"]).fullmatch(
        " 3.0% of crow are called owl (2 of 9)".strip()
    )
    assert not shown("12.5% of owl are called crow", ["owl", "crow"]).fullmatch("3% of owl were called crow")
