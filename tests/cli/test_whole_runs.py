"""Whole runs by the command line, on classes whose names are hard to print: said, drawn and compared."""

import csv
import dataclasses
import json
import re

import cv2
import numpy as np
import pytest
from messages import says
from scipy import stats
from tiny_run import Tiny

from cdml_jax.cli import main
from cdml_jax.models import NETWORKS, Variant
from cdml_jax.reporting import results

NAMES = ("$fam$/a$_{b$", "$fam$/cost $1 and $2", "红雀", "esc\x1b[2Jx", "new\nline")
TABLE = (
    "--config.reproduce.methods=baseline,cdml",
    "--config.reproduce.seeds=2",
    "--config.data.validation_fraction=0.2",
)
PRINTED = ("a$_{b$", "cost $1 and $2", "红雀", "esc\\x1b[2Jx", "new\\nline")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two trained runs on the same images, `a` and `b`, and a table on another division of them."""
    root = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for name in NAMES:
        (root / "birds" / name).mkdir(parents=True)
        colour = rng.integers(90, 166, 3)
        for number in range(12):
            image = np.clip(colour + rng.normal(0, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
            (root / "birds" / name / f"{number}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", Variant(Tiny))
        patch.setenv("CDML_DATA_DIR", str(root / "cache"))
        for name, seed in (("a", 0), ("b", 1)):
            assert main.main(command(root, "train", name, f"--config.seed={seed}")) == 0
        yield root


def command(root, command, name, *more):
    return [
        command,
        "--config=own_images_scratch",
        f"--config.source=folder:{root / 'birds'}",
        f"--workdir={root / name}",
        "--config.model.name=tiny",
        "--config.model.embedding_size=8",
        "--config.image.image_size=16",
        "--config.image.resize=16",
        "--config.image.crop=random",
        "--config.epochs=1",
        "--config.warmup_epochs=1",
        "--config.batch_size=16",
        "--config.data.num_threads=0",
        "--config.data.validation_fraction=0.3",
        "--config.compilation_cache=",
        "--quiet",
        *more,
    ]


@pytest.fixture(scope="module")
def table(root):
    assert main.main(command(root, "reproduce", "table", *TABLE)) == 0
    return root / "table"


def said(capsys, *arguments, status=0):
    capsys.readouterr()
    assert main.main([str(argument) for argument in arguments]) == status
    out, err = capsys.readouterr()
    assert not CONTROLS.search(out + err)
    return out, err


def test_evaluate_and_predict_say_of_how_many_and_escape_names(root, capsys):
    out, err = said(capsys, "evaluate", f"--workdir={root / 'a'}", "--quiet")
    right, images = map(
        int, re.search(r"^validation: top-1 .*% \((\d+) of (\d+) images\)", out, re.M).groups()
    )
    assert f"top-1 {right / images:.2%} " in out
    pairs = re.findall(r"^ +([\d.]+)% of (.*) are called (.*) \((\d+) of (\d+)\)$", out, re.M)
    assert pairs
    for rate, true, called, count, size in pairs:
        assert float(rate) == pytest.approx(100 * int(count) / int(size), abs=0.05)
        assert {true, called} <= set(PRINTED)
    inside = re.search(
        r"right family .*% \((\d+) of (\d+)\); .* inside the family \((\d+) of (\d+)\)$", out, re.M
    )
    kin, of_images, of_errors, errors = map(int, inside.groups())
    assert (of_images, errors, kin - right) == (images, images - right, of_errors)
    assert err.count("\n") <= 1  # letters that no font has
    out, _ = said(capsys, "predict", f"--workdir={root / 'a'}", root / "birds" / NAMES[3] / "0.png")
    assert "esc\\x1b[2Jx/0.png" in out
    assert all(name in out for name in PRINTED)
    out, _ = said(capsys, "predict", "--json", f"--workdir={root / 'a'}", root / "birds" / NAMES[3] / "0.png")
    assert {each["name"] for each in json.loads(out)["classes"]} == {
        name.rpartition("/")[2] for name in NAMES
    }


def test_calibrated_probabilities_are_evaluated_predicted_and_shown_on_a_page(root, capsys):
    run, image = root / "b", root / "birds" / NAMES[2] / "0.png"
    before = json.loads(said(capsys, "predict", "--json", f"--workdir={run}", image)[0])["classes"]
    out, _ = said(capsys, "calibrate", f"--workdir={run}", "--quiet")
    temperature = float(re.search(r"^temperature ([\d.]+), fitted on 18 validation images", out)[1])
    losses = re.search(r"mean -log p ([\d.]+) before, ([\d.]+) after", out)
    assert float(losses[2]) < float(losses[1])
    after = json.loads(said(capsys, "predict", "--json", f"--workdir={run}", image)[0])["classes"]
    probabilities = {each["name"]: each["probability"] for each in before}
    scaled = np.array(list(probabilities.values())) ** (1 / temperature)
    expected = dict(zip(probabilities, scaled / scaled.sum()))
    for each in after:
        assert each["probability"] == pytest.approx(expected[each["name"]], abs=2e-3)
    costs = root / "costs.csv"
    classes = json.loads((run / "classes.json").read_text())["class_names"]
    rows = [["", *classes]] + [[name, *["2"] * len(classes)] for name in classes]
    with costs.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    out, _ = said(capsys, "evaluate", f"--workdir={run}", f"--costs={costs}", "--quiet")
    right, images = map(int, re.search(r"top-1 .*% \((\d+) of (\d+) images\)", out).groups())
    figures = re.search(
        r"top-5 ([\d.]+)%, macro F1 ([\d.]+)%, expected calibration error ([\d.]+)% \(([\d.]+)% at the "
        r"temperature ([\d.]+) of cdml calibrate\), expected cost ([\d.]+) by costs.csv",
        out,
    )
    assert float(figures[1]) == 100  # of five classes
    assert float(figures[5]) == pytest.approx(temperature, rel=1e-2)
    assert float(figures[6]) == pytest.approx(2 * (images - right) / images, abs=1e-3)
    assert str(run / "report.html") in out
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "CDML, calibrated" in page
    assert f"{right / images:.2%}" in page
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["right"]) for row in rows) == right
    assert len(rows) == images
    assert said(capsys, "check", run, status=0)[0]


def test_pages_of_tables_of_two_runs_and_of_a_folder(root, table, capsys, tmp_path):
    page = (table / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    kept = results.load(table / "results")
    assert [run["called"] for run in data["runs"]] == [each.test.top_classes[:, 0].tolist() for each in kept]
    assert all(data["thumbs"])
    assert [each["title"] for each in data["maps"]] == ["Baseline, seed 0", "CDML, seed 0"]
    assert data["near"]["index"]
    said(capsys, "evaluate", f"--workdir={root / 'a'}", "--quiet")
    said(capsys, "evaluate", f"--workdir={root / 'b'}", "--quiet")
    both = tmp_path / "both.html"
    out, _ = said(capsys, "report", root / "a", root / "b", f"--out={both}", "--quiet")
    assert str(both) in out
    assert "A is A: CDML, a, B is B: CDML, b." in both.read_text(encoding="utf-8")
    folder = tmp_path / "folder.html"
    said(capsys, "predict", f"--workdir={root / 'a'}", root / "birds" / NAMES[2], f"--page={folder}")
    page = folder.read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    assert len(data["names"]) == 12
    assert "12 images, called by" in page
    _, err = said(capsys, "report", root / "a", "--split=test", status=2)
    assert "has no results of test images" in err
    _, err = said(capsys, "report", root / "a", table / "runs" / "cdml-seed0", status=2)
    assert "cannot be compared" in err


def test_prepare_lists_classes_a_line_each(root, capsys):
    out, _ = said(capsys, "prepare", f"folder:{root / 'birds'}", "--classes", "--no-images")
    lines = [line.split("\t") for line in out.splitlines() if re.match(r"\d+\t", line)]
    assert sorted(line[2] for line in lines) == sorted(PRINTED)


def test_two_trained_runs_are_compared_on_the_same_images(root, capsys):
    out, _ = said(capsys, "compare", root / "a", root / "b", "--quiet")
    first, *lines = out.splitlines()
    assert first == f"validation: A is CDML, seed 0, {root / 'a'}; B is CDML, seed 1, {root / 'b'}"
    rights = [
        int(re.match(rf"{side}: top-1 .*% \((\d+) of 18 images\)$", line)[1])
        for side, line in zip("AB", lines)
    ]
    both, only_a, only_b, neither = map(int, re.findall(r"\d+", lines[2]))
    assert [both + only_a, both + only_b] == rights
    assert both + only_a + only_b + neither == 18
    evaluated, _ = said(capsys, "evaluate", f"--workdir={root / 'b'}")
    assert f"({rights[1]} of 18 images)" in evaluated
    out, _ = said(capsys, "compare", root / "a", root / "a")
    assert "B - A: +0.00 points, no interval; McNemar's exact test: p = 1\n" in out
    assert out.endswith("They are right on the same images: no difference.\n")


def test_runs_of_a_table_are_compared_by_what_it_kept(table, capsys):
    kept = {(one.method, one.seed): one for one in results.load(table / "results")}
    for split in ("validation", "test"):
        out, _ = said(
            capsys, "compare", table / "runs/baseline-seed0", table / "runs/cdml-seed1", f"--split={split}"
        )
        a, b = getattr(kept["baseline", 0], split), getattr(kept["cdml", 1], split)
        right_a, right_b = a.top_classes[:, 0] == a.labels, b.top_classes[:, 0] == b.labels
        only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
        assert f"A: top-1 {right_a.mean():.2%} ({right_a.sum()} of {len(a.labels)} images)\n" in out
        assert f"in A alone {only_a}, in B alone {only_b}, " in out
        p_value = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
        assert f"McNemar's exact test: p = {p_value:.2g}\n" in out
        gains = re.findall(
            r"^  ([+-]\d+) of (\d+) images of (.*) \((\d+) right in A, (\d+) in B\)$", out, re.M
        )
        assert sum(int(gain) for gain, *_ in gains) == only_b - only_a
        assert all(name in PRINTED and int(gain) == int(b) - int(a) for gain, _, name, a, b in gains)


def test_a_run_of_a_table_is_not_trained_on_where_it_lies(root, table, capsys):
    run = next(path for path in sorted((table / "runs").iterdir()) if (path / "config.json").exists())
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    _, err = said(capsys, *command(root, "train", f"table/runs/{run.name}", "--config.epochs=9"), status=2)
    assert says(
        f"cdml: --workdir: {run} is a run of the table in {table}, whose runs have equal steps; to go on "
        f"from it, give another --workdir and --config.model.weights={run}\n",
        err,
    )
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_runs_on_other_images_are_refused_in_a_line(root, table, capsys):
    """The table keeps fewer images for validation."""
    for more, message in [
        (
            [root / "a", table / "runs/cdml-seed0"],
            "cannot be compared on validation images: they are of other images",
        ),
        ([root / "a", table], "holds a table's runs: choose one, such as"),
        ([root / "a", root / "none"], "holds no run"),
        ([root / "a", root / "b", "--config.epochs=3"], "unknown argument '--config.epochs=3'"),
    ]:
        _, err = said(capsys, "compare", *more, status=2)
        assert message in err
        assert err.count("\n") == 1


def test_a_result_of_another_table_is_refused_by_name(root, table, capsys):
    copied = table / "results/baseline-seed7.npz"
    other = results.load_one(table / "results/baseline-seed0.npz")
    names = (*other.test.names[1:], "x.png")
    results.save(
        dataclasses.replace(other, seed=7, test=dataclasses.replace(other.test, names=names)),
        table / "results",
    )
    _, err = said(capsys, *command(root, "reproduce", "table", *TABLE), status=2)
    copied.unlink()
    assert says(
        f"cdml: {copied} is of other images or classes than this table; move it away, and the same command "
        "makes its own\n",
        err,
    )


def test_a_table_of_two_seeds_says_that_they_are_too_few(root, table, capsys):
    out, _ = said(capsys, *command(root, "reproduce", "table", *TABLE))
    assert re.search(r"^\| CDML +\| +2 \| .* \| +[+-]\d+\.\d\d \(2 seeds\) \|", out, re.M)
    assert "2 seeds are too few for an interval." in out
    page = (table / "report.md").read_text()
    assert re.search(r"## Made by\n\n4 runs on \d x cpu, 20.*, by cdml_jax .*, jax .*, python ", page)
    assert "too few for an interval, so this shows nothing either way" in page
    assert not CONTROLS.search(page)
