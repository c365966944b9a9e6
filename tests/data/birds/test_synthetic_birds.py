"""The TFDS builder: the same bytes for any number of workers, whole or not at all, without TensorFlow."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from cdml_jax.data.birds import sets, synthetic_birds, workers
from cdml_jax.errors import UserError


@pytest.fixture
def tiny(monkeypatch):
    """`demo` cut down to 5 species and 29 images."""
    small = dataclasses.replace(
        sets.CONFIGS["demo"], family_sizes=(3, 2), per_species={"train": 3, "validation": 1, "test": 2}
    )
    monkeypatch.setitem(sets.CONFIGS, "demo", small)
    return small


def _stored(builder):
    files = sorted(p for p in builder.data_path.iterdir() if p.is_file())
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _read(builder, split):
    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    return [(example["image"], int(example["label"])) for example in (source[i] for i in range(len(source)))]


def test_bytes_do_not_depend_on_the_number_of_workers(tiny, tmp_path):
    stored = [
        _stored(synthetic_birds.prepare("demo", tmp_path / str(workers), num_workers=workers))
        for workers in (1, 2, 3)
    ]
    assert stored[0] == stored[1] == stored[2]
    assert sum("array_record" in name for name in stored[0]) == 3


def test_splits_hold_what_they_promise_and_share_no_image(tiny, tmp_path):
    builder = synthetic_birds.prepare("demo", tmp_path, num_workers=1)
    every = {split: _read(builder, split) for split in ("train", "validation", "test")}
    for split, count in tiny.per_species.items():
        labels = [label for _, label in every[split]]
        np.testing.assert_array_equal(np.bincount(labels), [count] * 5)
    images = [data for examples in every.values() for data, _ in examples]
    assert len(set(images)) == len(images) == 30
    data, _ = every["test"][0]
    assert isinstance(data, bytes)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
    assert builder.info.features["label"].names == list(synthetic_birds.classes("demo").names)


def test_stored_images_are_the_drawn_ones(tiny, tmp_path):
    builder = synthetic_birds.prepare("demo", tmp_path, num_workers=2)
    expected = sorted((workers.encoded(tiny, "train", k), k // 3) for k in range(15))
    assert sorted(_read(builder, "train")) == expected


def test_preparing_again_does_nothing(tiny, tmp_path, monkeypatch):
    first = synthetic_birds.prepare("demo", tmp_path, num_workers=1)
    folder = Path(first.data_path)
    times = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    monkeypatch.setattr(workers.Drawers, "split", None)
    again = synthetic_birds.prepare("demo", tmp_path, num_workers=1)
    assert again.is_prepared()
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == times


@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupted_preparation_leaves_nothing_and_recovers(tiny, tmp_path, monkeypatch, number):
    whole = workers.Drawers.split

    def interrupted(self, split):
        for position, data in enumerate(whole(self, split)):
            if split == "validation" and position == 2:
                raise KeyboardInterrupt
            yield data

    monkeypatch.setattr(workers.Drawers, "split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthetic_birds.prepare("demo", tmp_path, num_workers=number)
    assert not list(tmp_path.rglob("*array_record*"))
    monkeypatch.setattr(workers.Drawers, "split", whole)
    builder = synthetic_birds.prepare("demo", tmp_path, num_workers=number)
    assert len(_read(builder, "test")) == 10


def test_leftovers_of_a_killed_preparation_go(tiny, tmp_path):
    leftover = tmp_path / "synthetic_birds" / "demo" / f"incomplete.ABCDEF_{sets.VERSION}"
    leftover.mkdir(parents=True)
    (leftover / "synthetic_birds-train.array_record-00000-of-00001").write_bytes(b"half")
    builder = synthetic_birds.prepare("demo", tmp_path, num_workers=1)
    assert not leftover.exists()
    assert len(_read(builder, "train")) == 15


def test_a_worker_that_dies_is_reported(tiny, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with (
        pytest.raises((RuntimeError, BrokenPipeError)),
        workers.Drawers(tiny, 2) as drawers,
    ):
        list(drawers.split("train"))


def test_demo_is_large_enough_to_see_half_a_point():
    birds = sets.CONFIGS["demo"]
    assert len(birds.species) * birds.per_species["test"] >= 2400
    assert "test" not in sets.CONFIGS["upstream"].per_species


@pytest.mark.parametrize("config", sets.CONFIGS)
def test_kinship_is_known(config):
    classes = synthetic_birds.classes(config)
    assert classes.families[0] == 0
    assert set(np.diff(classes.families)) == {0, 1}
    assert len(classes.family_names) == classes.families[-1] + 1
    for name, family in zip(classes.names, classes.families, strict=True):
        assert name.endswith(classes.family_names[family])


@pytest.mark.parametrize(
    "call",
    [
        lambda path: synthetic_birds.prepare("dmeo", path),
        lambda path: synthetic_birds.classes("dmeo"),
        lambda path: synthetic_birds.prepare("demo", path, num_workers=0),
        lambda path: synthetic_birds.prepare("demo", __file__),
    ],
)
def test_mistakes_are_named(call, tmp_path):
    with pytest.raises(UserError, match=r"demo, cub_like, upstream|1 or more|give a folder"):
        call(tmp_path)


@pytest.mark.parametrize("place", ["file/data", "locked"])
def test_a_folder_that_cannot_be_written_is_named(tiny, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    # Root may write anywhere, so the answer of the system stands in for it.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    message = rf"^data\.data_dir: {tmp_path / place} cannot be written \(.+\); set CDML_DATA_DIR$"
    with pytest.raises(UserError, match=message):
        synthetic_birds.prepare("demo", tmp_path / place)


def test_tensorflow_is_not_imported_and_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import dataclasses, sys
            from cdml_jax.data.birds import sets, synthetic_birds
            small = dataclasses.replace(
                sets.CONFIGS["demo"], family_sizes=(2,), per_species={"train": 2, "test": 2}
            )
            sets.CONFIGS["demo"] = small
            builder = synthetic_birds.prepare("demo", sys.argv[1], num_workers=2)
            print(len(builder.as_data_source("train")), "tensorflow" in sys.modules)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script, tmp_path / "data"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split()[-2:] == ["4", "False"]
