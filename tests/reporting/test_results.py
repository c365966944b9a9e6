"""A stopped run finds what is done; damage is named."""

import csv
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import zipfile

import numpy as np
import pytest
from etils import epath
from messages import like

from cdml_jax.confusion.figures import mean_class_error
from cdml_jax.errors import UserError
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.provenance import Provenance, provenance
from cdml_jax.reporting.results import RunResult, load, refuse_others, save, write_rows
from cdml_jax.retrieval import Retrieval
from cdml_jax.retrieval.figures import EmbeddingFigures
from cdml_jax.system.archives import Archive, write_archive

# Unequal class sizes 4, 10, 0, 6; classes 0 and 1 are kin, 2 and 3 are.
COUNTS = np.array([[3, 1, 0, 0], [2, 5, 3, 0], [0, 0, 0, 0], [0, 1, 2, 3]])


FIGURES = EmbeddingFigures("projection", Retrieval({1: 0.75, 8: 0.875}, 0.5, 0.375, 20, 0.25), 0.625)


MADE = Provenance(
    {"image": {"scale": [0.35, 1.0]}},
    {"jax": "0.10.2", "python": "3.12.1"},
    "cpu",
    8,
    "2026-01-02T03:04:05+00:00",
)


def make(method="baseline", seed=0, *, history=None, embeddings=None, **more):
    return RunResult(method, seed, 120, 3.25, COUNTS.T.copy(), COUNTS, history or [], embeddings, **more)


def predictions(number, *, embeddings=None):
    rng = np.random.default_rng(number)
    probabilities = -np.sort(-rng.random((number, 3)), axis=1)
    return Predictions(
        names=tuple(f"鸟/{k}\n.png" for k in range(number)),
        labels=rng.integers(0, 4, number),
        top_classes=rng.integers(0, 4, (number, 3)),
        top_probabilities=probabilities,
        true_probability=rng.random(number),
        embeddings=embeddings,
    )


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


@pytest.mark.parametrize("method", ["", "../cdml", "a b", ".hidden"])
def test_a_method_must_be_able_to_name_a_file(method):
    with pytest.raises(ValueError, match="names a file"):
        make(method)


def test_save_and_load_round_trip(tmp_path):
    history = [
        {"epoch": 1, "loss": np.float32(2.5), "validation_accuracy": math.nan},
        {"epoch": 2, "loss": 1.5},
    ]
    save(make("cdml", 3, history=history), tmp_path)
    save(make("baseline", 10), tmp_path)
    save(make("baseline", 2), tmp_path)
    loaded = load(tmp_path)
    assert [(one.method, one.seed) for one in loaded] == [("baseline", 2), ("baseline", 10), ("cdml", 3)]
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


def test_predictions_and_provenance_round_trip(tmp_path):
    wide = np.random.default_rng(0).normal(size=(7, 5))
    kept = make(validation=predictions(7, embeddings=wide), test=predictions(9), provenance=MADE)
    save(kept, tmp_path)
    save(make("cdml"), tmp_path)
    result, bare = load(tmp_path, embeddings=True)
    for split in ("validation", "test"):
        found, expected = getattr(result, split), getattr(kept, split)
        assert found.names == expected.names
        for name in ("labels", "top_classes", "top_probabilities", "true_probability"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert result.test.labels.dtype == np.int32
    assert result.test.top_probabilities.dtype == result.test.true_probability.dtype == np.float32
    np.testing.assert_array_equal(result.validation.embeddings, wide.astype(np.float16))
    assert result.test.embeddings is None
    assert result.provenance == MADE
    assert (bare.validation, bare.test, bare.provenance) == (None, None, None)
    assert load(tmp_path)[0].validation.embeddings is None  # large, so only where asked for


@pytest.mark.usefixtures("unchecked_shapes")
def test_predictions_are_of_as_many_images_as_there_are_names():
    good = predictions(3)
    with pytest.raises(ValueError, match="labels has 3 rows for 2 images"):
        dataclasses.replace(good, names=good.names[:2])


def test_provenance_is_of_this_program_and_this_hour():
    made = provenance({"seed": 3}, device="cpu", devices=2)
    assert made.versions.keys() == {"cdml_jax", "jax", "jaxlib", "flax", "numpy", "python"}
    assert made.versions["numpy"] == np.__version__
    assert made.date.endswith("+00:00")
    assert made.machine == "2 x cpu"
    assert made.software.startswith("cdml_jax 0.1.0, jax ")


def test_a_result_is_small(tmp_path):
    """A benchmark of 5,794 test images: less than 40 bytes an image, names and all."""
    rng = np.random.default_rng(0)
    number = 5794
    names = tuple(
        f"{k // 29:03d}.Some_Bird/Some_Bird_{k:04d}_{rng.integers(10**5)}.jpg" for k in range(number)
    )
    top = -np.sort(-rng.dirichlet(np.full(5, 0.1), number).astype(np.float32), axis=1)
    said = Predictions(names, rng.integers(0, 200, number), rng.integers(0, 200, (number, 5)), top, top[:, 0])
    assert save(make(test=said), tmp_path).stat().length < 40 * number


def test_a_save_that_is_stopped_is_not_done(tmp_path, monkeypatch):
    save(make(), tmp_path)
    before = (tmp_path / "baseline-seed0.npz").read_bytes()

    def stop(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(epath.Path(tmp_path)), "replace", stop)
    for result in (make(embeddings=FIGURES), make("cdml")):
        with pytest.raises(KeyboardInterrupt):
            save(result, tmp_path)
    monkeypatch.undo()
    assert [(one.method, one.embeddings) for one in load(tmp_path)] == [("baseline", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["baseline-seed0.npz"]
    assert (tmp_path / "baseline-seed0.npz").read_bytes() == before


def test_any_damage_is_named_and_what_to_do(tmp_path):
    """Every byte with one bit flipped in turn, and every length: 146 of 400 once changed a table silently."""
    path = save(make(history=[{"loss": 2.5}], test=predictions(2)), tmp_path)
    content = path.read_bytes()
    damaged = [content[:k] + bytes([content[k] ^ 1 << k % 8]) + content[k + 1 :] for k in range(len(content))]
    for bad in [*damaged, *(content[:k] for k in range(0, len(content), 7)), b"\x93garbage", content + b"x"]:
        path.write_bytes(bad)
        with pytest.raises(UserError) as caught:
            load(tmp_path)
        assert str(caught.value).startswith(f"{path} is damaged")
        assert str(caught.value).endswith(
            "delete it, and the same command makes it again from the run's checkpoint"
        )
    path.write_bytes(content)
    assert load(tmp_path)[0].history == [{"loss": 2.5}]


def test_a_result_of_another_version_is_named(tmp_path):
    path = save(make(), tmp_path)
    archive = Archive(path)
    arrays = {name: archive[name] for name in ("validation_counts", "test_counts")}
    for record, counts in [
        ({key: value for key, value in archive.record.items() if key != "names"}, arrays),
        (archive.record, {"test_counts": COUNTS}),
        (archive.record | {"provenance": {"host": "a"}}, arrays),
    ]:
        write_archive(path, record, counts)
        with pytest.raises(
            UserError, match=like("baseline-seed0.npz was written by another version: delete it")
        ):
            load(tmp_path)


def sealed(content):
    """Bytes with the digest that an archive ends in."""
    return content + b"\x40\x00" + hashlib.sha256(content).hexdigest().encode()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()[:-2]


def array(value):
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


def record(text):
    return {"record.npy": array(np.frombuffer(text.encode(), np.uint8))}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a zip file",
        zipped({}),
        zipped({"record.npy": b"no array"}),
        zipped({"record.npy": array(np.array([[{}]], dtype=object))}),
        zipped({"record": b"{}"}),
        zipped(record("[" * 100_000)),
        zipped(record("{")),
        zipped(record("null")),
        zipped(record('{"method": 3}')),
        array(np.ones(3)),
    ],
)
def test_a_file_of_another_program_is_named(tmp_path, content):
    """Its digest is right: whatever NumPy, zip and JSON raise is one line."""
    (tmp_path / "cdml-seed0.npz").write_bytes(sealed(content))
    with pytest.raises(
        UserError, match=r"cdml-seed0\.npz was written by another (version|program): delete it"
    ) as told:
        load(tmp_path)
    assert "\n" not in str(told.value)


def test_results_of_other_images_are_refused_by_name(tmp_path):
    said = predictions(5)
    mine = make("cdml", 3, test=said)
    refuse_others([mine, make()], tmp_path, list(said.names), said.labels, 4)
    for names, labels, classes in [
        (["x", *said.names[1:]], said.labels, 4),
        (said.names[::-1], said.labels, 4),
        (said.names, (said.labels + 1) % 4, 4),
        (said.names[:4], said.labels[:4], 4),
        (said.names, said.labels, 5),
    ]:
        with pytest.raises(UserError, match=r"cdml-seed3\.npz is of other images or classes than this table"):
            refuse_others([mine], tmp_path, list(names), labels, classes)


def test_a_folder_of_results_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refused(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(epath.Path(tmp_path)), "iterdir", refused)
    with pytest.raises(UserError, match=like("cannot be read (Permission denied): make it readable")):
        load(tmp_path)


def test_a_result_of_the_first_format_is_named(tmp_path):
    (tmp_path / "cdml-seed0.json").write_text("{}")
    with pytest.raises(
        UserError, match=like("cdml-seed0.json was written by an older version; delete it and ")
    ):
        load(tmp_path)


def test_a_result_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "cdml-seed0.npz").mkdir()
    with pytest.raises(UserError, match=like("cdml-seed0.npz cannot be read (Is a directory)")):
        load(tmp_path)


def test_pickles_are_refused(tmp_path):
    path = save(make(), tmp_path)
    record = Archive(path).record
    write_archive(path, record, {"validation_counts": np.array([{}], dtype=object), "test_counts": COUNTS})
    with pytest.raises(UserError, match="another version"):
        load(tmp_path)


def test_anybody_can_open_a_result(tmp_path):
    path = save(make(test=predictions(4)), tmp_path)
    assert zipfile.ZipFile(path).testzip() is None
    arrays = np.load(path)
    np.testing.assert_array_equal(arrays["test_counts"], COUNTS)
    assert json.loads(arrays["record"].tobytes())["names"]["test"][0] == "鸟/0\n.png"


def test_a_renamed_result_is_refused(tmp_path):
    path = save(make(), tmp_path)
    path.rename(tmp_path / "cdml-seed0.npz")
    with pytest.raises(UserError, match="renamed"):
        load(tmp_path)


def test_rows_as_json_and_csv(tmp_path):
    empty = RunResult("cdml", 1, 5, 1.0, np.zeros((4, 4), int), COUNTS)
    paths = write_rows([make(embeddings=FIGURES), empty], tmp_path / "new")
    assert [path.name for path in paths] == ["rows.json", "rows.csv"]
    lines = json.loads(paths[0].read_text())
    assert lines[0]["method"] == "baseline"
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
