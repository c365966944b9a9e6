"""A stopped run finds what is done; damage is told by name."""

import csv
import json
import math

import numpy as np
import pytest

from cdml_jax.errors import UserError
from cdml_jax.metrics import mean_class_error
from cdml_jax.reporting import results as module
from cdml_jax.reporting.results import RunResult, by_row, load, save, write_rows
from cdml_jax.retrieval import Retrieval
from cdml_jax.retrieval.figures import EmbeddingFigures

# Unequal class sizes 4, 10, 0, 6; classes 0 and 1 are kin, 2 and 3 are.
COUNTS = np.array([[3, 1, 0, 0], [2, 5, 3, 0], [0, 0, 0, 0], [0, 1, 2, 3]])


FIGURES = EmbeddingFigures("projection", Retrieval({1: 0.75, 8: 0.875}, 0.5, 0.375, 20, 0.25), 0.625)


def make(row="baseline", seed=0, *, history=None, embeddings=None):
    return RunResult(row, seed, 120, 3.25, COUNTS.T.copy(), COUNTS, history or [], embeddings)


@pytest.mark.parametrize(
    ("counts", "error"),
    [
        (np.zeros((2, 3), int), ValueError),
        (np.full((2, 2), 0.5), TypeError),
        (-np.eye(2, dtype=int), ValueError),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, error):
    with pytest.raises(error):
        RunResult("cdml", 0, 1, 1.0, counts, counts)


@pytest.mark.parametrize("row", ["", "../cdml", "a b", ".hidden"])
def test_a_row_must_be_able_to_name_a_file(row):
    with pytest.raises(ValueError, match="names a file"):
        make(row)


def test_save_and_load_round_trip(tmp_path):
    history = [
        {"epoch": 1, "loss": np.float32(2.5), "validation_accuracy": math.nan},
        {"epoch": 2, "loss": 1.5},
    ]
    save(make("cdml", 3, history=history), tmp_path)
    save(make("baseline", 10), tmp_path)
    save(make("baseline", 2), tmp_path)
    loaded = load(tmp_path)
    assert [(one.row, one.seed) for one in loaded] == [("baseline", 2), ("baseline", 10), ("cdml", 3)]
    one = loaded[-1]
    assert (one.steps, one.seconds) == (120, 3.25)
    np.testing.assert_array_equal(one.test_counts, COUNTS)
    np.testing.assert_array_equal(one.validation_counts, COUNTS.T)
    assert one.test_counts.dtype == np.int64
    assert one.history[0]["loss"] == 2.5
    assert math.isnan(one.history[0]["validation_accuracy"])
    assert one.history[1] == {"epoch": 2, "loss": 1.5}
    assert load(tmp_path / "not_there") == []


def test_figures_of_embeddings_round_trip(tmp_path):
    nothing = EmbeddingFigures("features", Retrieval({1: math.nan}, math.nan, math.nan, 0), math.nan)
    save(make("cdml", embeddings=FIGURES), tmp_path)
    save(make("baseline", embeddings=nothing), tmp_path)
    baseline, cdml = load(tmp_path)
    assert cdml.embeddings == FIGURES
    assert str(baseline.embeddings) == str(nothing)


def test_a_result_from_before_embeddings_were_measured_loads(tmp_path):
    path = save(make(), tmp_path)
    record = json.loads(path.read_text())
    del record["embeddings"]
    path.write_text(json.dumps(record))
    assert load(tmp_path)[0].embeddings is None


def test_a_save_that_is_stopped_is_not_done(tmp_path, monkeypatch):
    save(make(), tmp_path)
    real = module.os.replace

    def stop_at_json(source, target):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(module.os, "replace", stop_at_json)
    # An interrupted repetition takes the old result back too: never new counts beside old figures.
    for result in (make(), make("cdml")):
        with pytest.raises(KeyboardInterrupt):
            save(result, tmp_path)
    monkeypatch.undo()
    assert load(tmp_path) == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "flipped"])
def test_a_damaged_file_is_named(tmp_path, suffix, damage):
    path = save(make(), tmp_path).with_suffix(suffix)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "garbage": b"\x93garbage",
            "empty": b"",
            # In the archive a byte of a compressed array, in the other a letter that is no JSON.
            "flipped": content.replace(b'"seed"', b'"se\xff"')
            if suffix == ".json"
            else content[:100] + bytes([content[100] ^ 0xFF]) + content[101:],
        }[damage]
    )
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert path.name in str(caught.value)
    assert "baseline-seed0.json" in str(caught.value)


def test_missing_counts_and_pickles_are_refused(tmp_path):
    path = save(make(), tmp_path).with_suffix(".npz")
    np.savez(path, validation_counts=np.array([{}], dtype=object), test_counts=COUNTS)
    with pytest.raises(UserError, match=r"baseline-seed0\.npz cannot be read"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"baseline-seed0\.npz is missing"):
        load(tmp_path)


def test_a_renamed_result_is_refused(tmp_path):
    path = save(make(), tmp_path)
    path.with_suffix(".npz").rename(tmp_path / "cdml-seed0.npz")
    path.rename(tmp_path / "cdml-seed0.json")
    with pytest.raises(UserError, match="renamed"):
        load(tmp_path)


def test_by_row_orders_seeds_and_refuses_repetition():
    rows = by_row([make("cdml", 2), make("baseline", 1), make("cdml", 0)])
    assert {row: list(seeds) for row, seeds in rows.items()} == {"cdml": [0, 2], "baseline": [1]}
    with pytest.raises(ValueError, match="two results for seed 1"):
        by_row([make(seed=1), make(seed=1)])
    other = RunResult("cdml", 0, 1, 1.0, np.eye(2, dtype=int), np.eye(2, dtype=int))
    with pytest.raises(ValueError, match="different numbers of classes"):
        by_row([make(), other])


def test_rows_as_json_and_csv(tmp_path):
    empty = RunResult("cdml", 1, 5, 1.0, np.zeros((4, 4), int), COUNTS)
    paths = write_rows([make(embeddings=FIGURES), empty], tmp_path / "new")
    assert [path.name for path in paths] == ["rows.json", "rows.csv"]
    lines = json.loads(paths[0].read_text())
    assert lines[0]["row"] == "baseline"
    assert lines[0]["test_accuracy"] == 0.55
    assert lines[0]["validation_accuracy"] == 0.55
    assert lines[0]["test_mean_class_error"] == pytest.approx(5 / 12)
    assert lines[0]["validation_mean_class_error"] == pytest.approx(mean_class_error(COUNTS.T))
    assert lines[1]["validation_accuracy"] is None
    figures = {"embedding": "projection", "test_recall_at_1": 0.75, "test_map_at_r": 0.375}
    figures |= {"test_r_precision": 0.5, "test_nmi": 0.625}
    assert {key: lines[0][key] for key in figures} == figures
    assert {lines[1][key] for key in figures} == {None}
    with paths[1].open() as stream:
        table = list(csv.DictReader(stream))
    assert table[0]["test_accuracy"] == "0.55"
    assert table[1]["validation_accuracy"] == ""
    assert list(table[0]) == list(lines[0])
