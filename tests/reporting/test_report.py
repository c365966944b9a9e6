"""The page names its command, links only what exists, and copes with whatever methods are there."""

import builtins
import dataclasses
import errno
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from messages import says

from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.reporting import drawing, figures, matrices, paper
from cdml_jax.reporting.pairs import confused_pairs
from cdml_jax.reporting.provenance import Provenance
from cdml_jax.reporting.report import write_report
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate
from cdml_jax.system import console

NAMES = ("Ash_Wren", "Bay Wren", "Cave Tit", "Dusk Tit")
CLASSES = Classes(NAMES, (0, 0, 1, 1), ("wrens", "tits"))
TITLES = {"baseline": "baseline", "cdml": "CDML"}
VALIDATION = np.array([[6, 4, 0, 0], [0, 9, 0, 1], [0, 3, 7, 0], [0, 0, 0, 10]])
TEST = np.array([[9, 1, 0, 0], [0, 4, 6, 0], [0, 2, 8, 0], [0, 0, 2, 8]])


@pytest.fixture(autouse=True)
def no_reminders(monkeypatch):
    """On a busy machine drawing takes long enough for a line that says so."""
    monkeypatch.setattr(console, "_FIRST_LINE_SECONDS", 1e6)


def runs(methods=("baseline", "cdml"), seeds=2, *, history=True):
    epochs = [{"epoch": 1, "loss": 2.0, "validation_accuracy": 0.4}] if history else []
    return [
        RunResult(method, seed, 50, 1.0, VALIDATION, TEST + seed * (1 + k) * np.eye(4, dtype=int), epochs)
        for k, method in enumerate(methods)
        for seed in range(seeds)
    ]


def report(results, folder, *, classes=CLASSES, **changes):
    options = {
        "command": "cdml reproduce --config=demo",
        "settings": {"batch_size": 64, "objective": {"margin": 0.2, "mode": None}},
        "dataset_name": "four_birds",
    }
    return write_report(tabulate(results, classes, titles=TITLES), folder, **(options | changes))


def test_pairs_are_chosen_by_validation():
    table = tabulate(runs(), CLASSES)
    pairs = confused_pairs(table, 2)
    assert [(pair.true, pair.called) for pair in pairs] == [(0, 1), (2, 1)]
    assert [pair.rate for pair in pairs] == pytest.approx([0.4, 0.3])
    assert len(confused_pairs(table)) == 3  # what is never confused is left out
    assert confused_pairs(tabulate(runs(("cdml",)), CLASSES)) == []


def test_the_report_in_full(tmp_path):
    done = report(runs(), tmp_path / "report", dataset_name=paper.DATASET)
    assert [path.name for path in done.paths] == [
        "report.md",
        "rows.json",
        "rows.csv",
        "misclassification.png",
        "misclassification.svg",
        "confusion.png",
        "confusion.svg",
        "confusion_compared.png",
        "confusion_compared.svg",
        "learning_curves.png",
        "learning_curves.svg",
    ]
    assert all(path.read_bytes() for path in done.paths)
    page = done.paths[0].read_text()
    assert done.table.strip() in page
    assert done.embeddings.strip() in page
    assert "cdml reproduce --config=demo" in page
    assert "| objective.margin | 0.2   |" in page
    assert "Made by" not in page  # these results do not say
    assert "Bilinear-CNN" in page
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert sorted(linked) == sorted(path.name for path in done.paths if path.suffix == ".png")
    assert str(tmp_path) not in page
    # 4 of 10 on validation; on test 1 of 10 and, with seed 1 one image more, 1 of 11.
    assert re.search(r"Ash\\_Wren +\| Bay Wren +\| +40\.0 \(8 of 20\) \| +9\.5 \(2 of 21\) \|", page)
    # 11 wrong answers a run, 1 + 2 of them inside the family; seed 1 has 4 images more, all right.
    assert re.search(r"\| baseline +\| +27\.3 \(6 of 22\) \| +80\.9 \(68 of 84\) \|", page)
    assert "Ash\\_Wren (40 %: 8 of 20), Cave Tit (30 %: 6 of 20)" in page
    # Every class has one sibling among three others.
    assert "in 33.3 % of the cases" in page


def test_one_seed_and_no_families(tmp_path):
    done = report(runs(seeds=1, history=False), tmp_path, classes=Classes(NAMES))
    page = done.paths[0].read_text()
    assert "one seed: no interval" in page
    assert "inside families" not in page
    assert not (tmp_path / "learning_curves.png").exists()


def test_without_the_baseline(tmp_path):
    done = report(runs(("cdml", "focal")), tmp_path, dataset_name=paper.DATASET)
    page = done.paths[0].read_text()
    assert "The baseline was not run" in page
    assert "misclassification" not in page.lower()
    assert (tmp_path / "confusion.png").exists()


def test_the_baseline_alone_with_an_empty_validation_split(tmp_path):
    lone = RunResult("baseline", 0, 50, 1.0, np.zeros((4, 4), int), TEST)
    page = report([lone], tmp_path).paths[0].read_text()
    assert "misclassification.png" not in page


@pytest.fixture
def full_disk(monkeypatch):
    """A function after which no file of such a name can be written."""

    def fill(name):
        def opened(file, mode="r", *arguments, **options):
            if name in str(file) and "r" not in mode:
                return FullDisk(file, mode.replace("b", ""))
            return real(file, mode, *arguments, **options)

        for module in (io, builtins):
            monkeypatch.setattr(module, "open", opened)

    real = io.open

    class FullDisk(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fill


@pytest.mark.parametrize("name", ["report.md", "rows.json"])
def test_a_full_disk_is_told_in_one_line(tmp_path, full_disk, name):
    full_disk(name)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): make room there"):
        report(runs(), tmp_path)


def test_a_picture_that_cannot_be_written_costs_itself_alone(tmp_path, full_disk, capsys):
    full_disk("confusion.png")
    done = report(runs(), tmp_path)
    said = capsys.readouterr().err
    assert said.startswith("cdml: confusion.png: not drawn (")
    assert "No space left on device" in said
    assert said.count("cdml: ") == 1
    page = done.paths[0].read_text()
    assert "confusion.png" not in page
    assert "confusion_compared.png" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in done.paths)


def test_a_picture_that_cannot_be_drawn_costs_itself_alone(tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise ValueError("ParseSyntaxException\n at char 4")

    monkeypatch.setattr(figures, "learning_curves", fail)
    monkeypatch.setattr(matrices, "confusion_figure", fail)
    done = report(runs(), tmp_path)
    assert [path.name for path in done.paths] == [
        "report.md",
        "rows.json",
        "rows.csv",
        "misclassification.png",
        "misclassification.svg",
    ]
    assert capsys.readouterr().err == "".join(
        f"cdml: {name}.png: not drawn (ValueError: at char 4)\n"
        for name in ("confusion", "confusion_compared", "learning_curves")
    )
    page = done.paths[0].read_text()
    assert done.table.strip() in page
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page) == ["misclassification.png"]
    assert "## Confusion\n\nThe pairs that the baseline" in page


def test_without_matplotlib_there_are_no_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawing, "why_not", lambda: "no picture is drawn: that needs matplotlib")
    done = report(runs(), tmp_path)
    assert [path.name for path in done.paths] == ["report.md", "rows.json", "rows.csv"]
    assert capsys.readouterr().err == "cdml: no picture is drawn: that needs matplotlib\n"


def test_the_report_itself_needs_no_matplotlib():
    code = """
import sys
sys.modules["matplotlib"] = None
from cdml_jax.reporting import drawing, report
assert "matplotlib" in drawing.why_not()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_odd_names_are_text_in_the_page_and_one_line_on_the_terminal(tmp_path, capsys):
    classes = Classes(("5$ 50% off 10$", "$#$", "红雀", "a\nb"), (0, 0, 1, 1), ("<b>fam|$^$", "鸟"))
    page = report(runs(), tmp_path, classes=classes).paths[0].read_text()
    (warned,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("cdml:"))
    assert says("cdml: letters of names that no installed font has are drawn as boxes: 红 雀 鸟", warned)
    assert "5\\$ 50% off 10\\$ (40 %: 8 of 20)" in page
    assert re.search(r"\| 红雀 +\| \\\$\\#\\\$ ", page)
    assert not re.search(r"(?<!\\)\$", page)
    assert "a b (0 %: 0 of 20)" in page
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_the_page_says_what_made_the_results(tmp_path):
    versions = {"cdml_jax": "0.1.0", "jax": "0.10.2"}
    results = [
        dataclasses.replace(
            result, provenance=Provenance({}, versions, "cpu", 8, f"2026-01-0{day}T00:00:00+00:00")
        )
        for day, result in enumerate(runs(), start=1)
    ]
    page = report(results, tmp_path).paths[0].read_text()
    assert (
        "4 runs on 8 x cpu, 2026-01-01T00:00:00+00:00 to 2026-01-04T00:00:00+00:00, by cdml_jax 0.1.0, jax"
        in page
    )


def test_runs_that_were_made_differently_are_named_below_the_table(tmp_path):
    made = Provenance({}, {"cdml_jax": "0.1.0", "jax": "0.10.2"}, "cpu", 8, "2026-01-02T03:04:05+00:00")
    newer = dataclasses.replace(made, versions={"jax": "0.10.3"})
    others = [made, dataclasses.replace(made, devices=1), None, newer]
    results = [
        dataclasses.replace(result, provenance=one) for result, one in zip(runs(), others, strict=True)
    ]
    line = (
        "The runs were not all made alike: 8 x cpu (2 runs), 1 x cpu (1 run); cdml_jax 0.1.0 (2 runs), "
        "cdml_jax not named (1 run); jax 0.10.2 (2 runs), jax 0.10.3 (1 run); 1 of 4 runs do not say."
    )
    done = report(results, tmp_path)
    assert line in done.table.splitlines()
    assert done.paths[0].read_text().count(line) == 2
    alike = [dataclasses.replace(result, provenance=made) for result in runs()]
    assert "alike" not in report(alike, tmp_path).paths[0].read_text()


def test_names_that_would_act_on_a_terminal_or_a_page_are_escaped(tmp_path, capsys):
    classes = Classes(("a\x1b[2J", "b&lt;~~", "c|\\", "d\x9b"), (0, 0, 1, 1), ("e", "f"))
    source = {"source": "folder:$\x1b$"}
    done = report(runs(), tmp_path, classes=classes, dataset_name="g\x1b]0;*", settings=source)
    page = done.paths[0].read_text()
    for text in (r"a\\x1b\[2J", r"b\&lt;\~\~", r"on g\\x1b\]0;\*", r"| folder:\$\\x1b\$ |"):
        assert text in page
    assert re.search(r"\| c\\\|\\\\ +\|", page)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", page)
    error = capsys.readouterr().err  # on a busy machine, a line of progress
    assert "cdml:" not in error
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", error)


def test_the_tables_are_there_whatever_ends_the_drawing(tmp_path, monkeypatch):
    def ended(*arguments, **options):
        raise KeyboardInterrupt  # as a crash of the drawing library, it is no `Exception`

    monkeypatch.setattr(matrices, "confusion_figure", ended)
    with pytest.raises(KeyboardInterrupt):
        report(runs(), tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "| CDML " in page
    assert ".png" not in page
    assert report(runs(), tmp_path, draw=False).paths[0].read_text() == page


def test_nothing_is_no_report(tmp_path):
    with pytest.raises(ValueError, match="no results"):
        report([], tmp_path)
