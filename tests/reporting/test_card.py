"""A run's card: its figures and intervals, names that may hold anything, what is kept of it."""

import dataclasses
import json

import numpy as np
import pytest
from etils.epath import Path
from scipy import stats

from cdml_jax.data.classes import Classes
from cdml_jax.reporting import card
from cdml_jax.reporting.card import Card, SplitFigures, figures_of
from cdml_jax.reporting.provenance import Provenance

CLASSES = Classes(("crow", "owl|*", "jay\x1b[2J"))


@pytest.fixture
def made():
    return Card(
        dataset="my <birds>",
        method="CDML",
        seed=3,
        epochs=12,
        sizes={"train": [30, 20, 1], "validation": [5, 0, 2]},
        network="small_resnet",
        parameters=1_234_567,
        weights="some file; Apache 2.0",
        provenance=Provenance({"epochs": 12}, {"jax": "0.10.2"}, "cpu", 2, "2026-01-02T03:04:05+00:00"),
        figures={"validation": SplitFigures(7, 6, 0.25, 12)},
    )


@pytest.mark.parametrize(("correct", "images"), [(6, 7), (0, 10), (10, 10), (777, 1000)])
def test_the_interval_is_wilsons(correct, images):
    low, high = SplitFigures(images, correct, 0.0, 1).interval
    expected = stats.binomtest(correct, images).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_figures_are_those_of_the_counts():
    found = figures_of(np.array([[3, 1, 0], [0, 0, 0], [2, 0, 4]]), 5)
    assert found == SplitFigures(10, 7, pytest.approx((1 / 4 + 1 / 3) / 2), 5)
    assert figures_of(np.zeros((2, 2), int), 5) is None


def test_the_page_says_what_the_card_holds(made):
    page = made.page(CLASSES, "runs/my birds")
    for words in (
        "# CDML on my \\<birds\\>, seed 3",
        "for 12 epochs on 2 x cpu, until 2026-01-02T03:04:05+00:00",
        "cdml predict --workdir='runs/my birds' IMAGE",
        "| 6 of 7 |",
        "85.7% [48.7%, 97.4%]",
        "3 classes; images: 51 train, 7 validation",
        "1,234,567 parameters",
        "some file; Apache 2.0",
    ):
        assert words in page
    assert "\x1b" not in page
    rows = [line for line in page.splitlines() if line.startswith("| owl")]
    assert rows == ["| owl\\|\\*      |    20 |          0 |"]


def test_very_many_classes_are_not_all_listed(made):
    number = 1_000
    many = dataclasses.replace(made, sizes={"train": [1] * number})
    page = many.page(Classes(tuple(f"class {k}" for k in range(number))), "run")
    assert "| class 199 " in page
    assert "| class 200 " not in page
    assert "and 800 more classes, which classes.json lists." in page


def test_what_is_written_is_read_and_added_to(made, tmp_path):
    card.write(Path(tmp_path), made, CLASSES)
    again = card.read(Path(tmp_path))
    assert again == made
    more = again.with_figures("test", SplitFigures(9, 9, 0.0, 12))
    assert list(more.figures) == ["validation", "test"]
    assert "| test " in more.page(CLASSES, "run")
    assert card.read(Path(tmp_path / "none")) is None


@pytest.mark.parametrize("change", ["{", "[]", '{"seed": 4}', "edited"])
def test_a_card_that_was_changed_is_left_alone(made, tmp_path, capsys, change):
    card.write(Path(tmp_path), made, CLASSES)
    path = tmp_path / card.FILE
    if change == "edited":
        change = json.dumps(json.loads(path.read_text()) | {"epochs": 99})
    path.write_text(change)
    assert card.read(Path(tmp_path)) is None
    assert f"{path} is not as the run wrote it" in capsys.readouterr().err
