"""The page names its command, links only what exists, and copes with whatever rows are there."""

import builtins
import errno
import io
import os
import re

import numpy as np
import pytest

from cdml_jax.errors import UserError
from cdml_jax.reporting import paper
from cdml_jax.reporting.pairs import confused_pairs
from cdml_jax.reporting.report import write_report
from cdml_jax.reporting.results import RunResult

NAMES = ["Ash_Wren", "Bay Wren", "Cave Tit", "Dusk Tit"]
FAMILIES = [0, 0, 1, 1]
VALIDATION = np.array([[6, 4, 0, 0], [0, 9, 0, 1], [0, 3, 7, 0], [0, 0, 0, 10]])
TEST = np.array([[9, 1, 0, 0], [0, 4, 6, 0], [0, 2, 8, 0], [0, 0, 2, 8]])


def runs(rows=("baseline", "cdml"), seeds=2, *, history=True):
    epochs = [{"epoch": 1, "loss": 2.0, "validation_accuracy": 0.4}] if history else []
    return [
        RunResult(row, seed, 50, 1.0, VALIDATION, TEST + seed * (1 + k) * np.eye(4, dtype=int), epochs)
        for k, row in enumerate(rows)
        for seed in range(seeds)
    ]


def report(results, folder, **changes):
    options = {
        "title": "Four birds",
        "class_names": NAMES,
        "families": FAMILIES,
        "family_names": ["wrens", "tits"],
        "row_titles": paper.ROW_TITLES,
        "command": "cdml reproduce --config=demo",
        "settings": {"batch_size": 64, "objective": {"margin": 0.2, "mode": None}},
        "dataset_name": "four_birds",
    }
    return write_report(results, folder=folder, **(options | changes))


def test_pairs_are_chosen_by_validation():
    pairs = confused_pairs(runs(), 2)
    assert [(pair.true, pair.called) for pair in pairs] == [(0, 1), (2, 1)]
    assert [pair.rate for pair in pairs] == pytest.approx([0.4, 0.3])
    assert len(confused_pairs(runs())) == 3  # what is never confused is left out
    assert confused_pairs(runs(("cdml",))) == []


def test_the_report_in_full(tmp_path):
    done = report(runs(), tmp_path / "report", paper=paper.TABLE_2, dataset_name=paper.DATASET)
    assert [path.name for path in done.paths] == [
        "report.md",
        "rows.json",
        "rows.csv",
        "misclassification.png",
        "confusion.png",
        "confusion_compared.png",
        "learning_curves.png",
    ]
    assert all(path.stat().st_size > 0 for path in done.paths)
    page = done.paths[0].read_text()
    assert done.table.strip() in page
    assert done.embeddings.strip() in page
    assert "4 of 4 runs were made before embeddings were measured" in done.embeddings
    assert "cdml reproduce --config=demo" in page
    assert "| objective.margin | 0.2   |" in page
    assert "Bilinear-CNN" in page
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert sorted(linked) == sorted(path.name for path in done.paths if path.suffix == ".png")
    assert str(tmp_path) not in page
    # 4 of 10 on validation; on test 1 of 10 and, with seed 1 one image more, 1 of 11.
    assert re.search(r"Ash\\_Wren +\| Bay Wren +\| +40\.0 \| +9\.5 \|", page)
    # 11 wrong answers a run, 1 + 2 of them inside the family.
    assert re.search(r"\| baseline +\| +27\.3 \|", page)
    # Every class has one sibling among three others.
    assert "in 33.3 % of the cases" in page


def test_one_seed_and_no_families(tmp_path):
    done = report(runs(seeds=1, history=False), tmp_path, families=None, family_names=None)
    page = done.paths[0].read_text()
    assert "one seed: no interval" in page
    assert "inside families" not in page
    assert not (tmp_path / "learning_curves.png").exists()


def test_without_the_baseline(tmp_path):
    done = report(runs(("cdml", "focal")), tmp_path, paper=paper.TABLE_2)
    page = done.paths[0].read_text()
    assert "The baseline was not run" in page
    assert "misclassification" not in page.lower()
    assert (tmp_path / "confusion.png").exists()


def test_the_baseline_alone_with_an_empty_validation_split(tmp_path):
    lone = RunResult("baseline", 0, 50, 1.0, np.zeros((4, 4), int), TEST)
    page = report([lone], tmp_path).paths[0].read_text()
    assert "misclassification.png" not in page


@pytest.mark.parametrize("full", ["report.md", "rows.json", "confusion.png"])
def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch, full):
    class FullDisk(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = io.open

    def opened(file, mode="r", *arguments, **options):
        if full in str(file) and "r" not in mode:
            return FullDisk(file, mode.replace("b", ""))
        return real(file, mode, *arguments, **options)

    for module in (io, builtins):
        monkeypatch.setattr(module, "open", opened)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): make room there"):
        report(runs(), tmp_path)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no results"):
        report([], tmp_path)
    with pytest.raises(ValueError, match="class_names has 3 entries for 4 classes"):
        report(runs(), tmp_path, class_names=NAMES[:3])
    with pytest.raises(ValueError, match="families has 5 entries"):
        report(runs(), tmp_path, families=[0] * 5)
