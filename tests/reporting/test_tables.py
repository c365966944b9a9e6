"""The tables' text, to the letter, and what they say where something is missing."""

import dataclasses
import math

import numpy as np
import pytest

from cdml_jax.data.classes import Classes
from cdml_jax.reporting import paper
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate
from cdml_jax.reporting.tables import embeddings_table, methods_table
from cdml_jax.retrieval import Retrieval
from cdml_jax.retrieval.figures import EmbeddingFigures

TITLES = {"baseline": "baseline", "weighted_softmax": "weighted softmax", "cdml": "CDML"}


def run(method, seed, right, *, steps=300):
    """Of 100 + 100 test images, `right` + 100 are called rightly."""
    counts = np.array([[right, 100 - right], [0, 100]])
    return RunResult(method, seed, steps, 1.0, np.eye(2, dtype=int), counts)


def table(results):
    return tabulate(results, Classes(("wren", "tit")), titles=TITLES)


def test_the_table_to_the_letter():
    results = [run("cdml", 0, 62), run("cdml", 1, 66), run("cdml", 2, 70)]
    results += [run("baseline", 0, 60), run("baseline", 1, 62), run("baseline", 2, 64)]
    text = methods_table(table(results), paper=paper.TABLE_2)
    # Differences 1, 2, 3 points.
    assert text == (
        "| method   | seeds |      top-1 % |    difference [95 %] | class error % | steps |       paper % |\n"
        "|:---------|------:|-------------:|---------------------:|--------------:|------:|--------------:|\n"
        "| baseline |     3 | 81.00 ± 1.00 |                    – |  19.00 ± 1.00 |   300 |         82.33 |\n"
        "| CDML     |     3 | 83.00 ± 2.00 | +2.00 [-0.48, +4.48] |  17.00 ± 2.00 |   300 | 84.88 (+2.55) |\n"
        "\n"
        "200 test images; mean ± standard deviation over seeds. Difference to the baseline in points,\n"
        "paired by seed, with Student's 95 % interval, not corrected for the number of methods.\n"
    )
    assert "paper" not in methods_table(table(results))


def test_the_table_says_when_seeds_or_steps_differ():
    results = [
        run("baseline", 0, 60),
        run("baseline", 1, 62),
        run("cdml", 1, 64, steps=600),
        run("odd", 5, 10),
    ]
    text = methods_table(table(results))
    assert "+1.00 (one seed)" in text
    assert "CDML: its seeds are not the baseline's; seeds in both: 1." in text
    assert "odd: its seeds are not the baseline's; seeds in both: none." in text
    assert "no common seed" in text
    assert "did not all take the same number of steps" in text


def test_few_seeds_have_no_interval_and_the_table_says_so():
    results = [run("baseline", 0, 60), run("baseline", 1, 62), run("cdml", 0, 62), run("cdml", 1, 66)]
    text = methods_table(table(results))
    assert "| 82.00 (81.00, 83.00) |   +1.50 (2 seeds) | 18.00 (19.00, 17.00) |   300 |" in text
    assert text.endswith(
        "\n\n200 test images; of two seeds the mean and both figures. Difference to the baseline in points,\n"
        "paired by seed. 2 seeds are too few for an interval.\n"
    )
    results += [run("baseline", 2, 60), run("weighted_softmax", 2, 61)]
    text = methods_table(table(results))
    assert "80.33 ± 0.58" in text
    assert "+0.50 (one seed)" in text
    assert "1 seed is too few for an interval. 2 seeds are too few for an interval." in text.replace(
        "\n", " "
    )
    text = methods_table(table([run("baseline", 0, 60)]))
    assert text.endswith("\n\n200 test images; one seed.\n")


def test_equal_differences_have_no_interval():
    results = [run(method, seed, 60 + seed + (method == "cdml")) for method in TITLES for seed in range(3)]
    assert "+0.50 (no spread)" in methods_table(table(results))


def test_the_table_without_a_baseline():
    text = methods_table(table([run("cdml", 0, 64)]), paper={"cdml": 84.88})
    assert "| CDML   |     1 |   82.00 |                 – |         18.00 |   300 |   84.88 |" in text


def embedded(method, seed, recall, *, embedding="features", nmi=0.5):
    found = Retrieval({1: recall, 2: 1.0}, 0.25 + recall / 2, recall / 2, 200)
    return dataclasses.replace(run(method, seed, 60), embeddings=EmbeddingFigures(embedding, found, nmi))


def test_embeddings_that_rounding_decides_are_named_below_the_table():
    fine, noise = embedded("baseline", 0, 0.6), embedded("cdml", 0, 0.1)
    found = dataclasses.replace(noise.embeddings.retrieval, unresolved=0.97)
    collapsed = dataclasses.replace(noise, embeddings=EmbeddingFigures("features", found, 0.5))
    text = embeddings_table(table([fine, collapsed, embedded("cdml", 1, 0.6)]))
    assert f"CDML, 1 of 2 runs: {found.warning}.\n" in text
    assert "97%" in found.warning
    assert "runs:" not in embeddings_table(table([fine, noise]))


def test_the_table_of_embeddings_to_the_letter():
    results = [embedded("baseline", seed, recall) for seed, recall in enumerate((0.60, 0.62, 0.64))]
    results += [embedded("cdml", seed, recall) for seed, recall in enumerate((0.61, 0.64, 0.67))]
    # Differences in Recall@1 are 1, 2 and 3 points, in mAP@R half of that.
    assert embeddings_table(table(results)) == (
        "| method   | embedding |   Recall@1 % |    difference [95 %] |      mAP@R % |    difference [95 %] |"
        " R-precision % |        NMI % |\n"
        "|:---------|:----------|-------------:|---------------------:|-------------:|---------------------:|"
        "--------------:|-------------:|\n"
        "| baseline | features  | 62.00 ± 2.00 |                    – | 31.00 ± 1.00 |                    – |"
        "  56.00 ± 1.00 | 50.00 ± 0.00 |\n"
        "| CDML     | features  | 64.00 ± 3.00 | +2.00 [-0.48, +4.48] | 32.00 ± 1.50 | +1.00 [-0.24, +2.24] |"
        "  57.00 ± 1.50 | 50.00 ± 0.00 |\n"
        "\n"
        "Each test image is sought among the others by its embedding, of length 1; mean ± deviation,\n"
        "differences as above. NMI: of the classes and as many k-means clusters. features are what the\n"
        "classifier reads, a projection is what the embedding head makes of them.\n"
    )


def test_the_table_of_embeddings_of_two_seeds_has_no_deviation():
    results = [embedded(method, seed, 0.6 + seed / 50) for method in ("baseline", "cdml") for seed in (0, 1)]
    text = embeddings_table(table(results))
    assert "| 61.00 (60.00, 62.00) |" in text
    assert "of length 1; figures and\ndifferences as above." in text


def test_embeddings_of_two_kinds_are_told_apart():
    results = [embedded("baseline", 0, 0.6), embedded("cdml", 0, 0.7, embedding="projection")]
    text = embeddings_table(table(results))
    assert "| CDML     | projection |" in text
    assert "embeddings differ in kind: without triplets a projection stays as it was drawn" in text


def test_results_without_figures_of_embeddings_show_a_dash():
    results = [embedded("baseline", 0, 0.6, nmi=math.nan), run("cdml", 0, 60), embedded("odd", 1, 0.5)]
    text = embeddings_table(table(results))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:5]]
    assert cells[0] == ["baseline", "features", "60.00", "–", "30.00", "–", "55.00", "–"]
    assert cells[1] == ["CDML"] + ["–"] * 7
    assert cells[2] == ["odd", "features", "50.00", "–", "25.00", "–", "50.00", "50.00"]  # no common seed


def test_the_papers_tables():
    assert paper.TABLE_2["cdml"] - paper.TABLE_2["baseline"] == pytest.approx(2.55)
    text = paper.paper_table_1(83.456)
    lines = text.splitlines()
    assert len(lines) == 2 + 8
    assert lines[2].split("|")[1:4] == [
        " CDML           ",
        "                        84.88 ",
        "         83.46 ",
    ]
    assert [line.split("|")[3].strip() for line in lines[3:]] == ["–"] * 7
    assert paper.paper_table_1(None).splitlines()[2].split("|")[3].strip() == "–"
