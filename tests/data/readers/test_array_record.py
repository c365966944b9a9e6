import json
import sys

import numpy as np
import pytest
from array_record.python import array_record_module
from miniature_archives import WRITERS

from cdml_jax.data.feeds.batches import read_image
from cdml_jax.data.prepare import prepare
from cdml_jax.data.readers import array_record
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError
from cdml_jax.system.files import locked

WHOLE = {"train": "train", "validation": "validation", "test": "test"}


@pytest.fixture
def source(tmp_path):
    """source(key) writes the miniature and gives its dataset, loaded, with all its splits."""

    def read(key):
        if not (tmp_path / key).exists():
            WRITERS[key](tmp_path / key)
        return load(f"{key}:{tmp_path / key}", data_dir=str(tmp_path / "cache"), **WHOLE)

    return read


def _again(out, tmp_path):
    return load(f"array_record:{out}", data_dir=str(tmp_path / "cache"), **WHOLE)


def test_a_folder_with_copies_and_equal_names_is_divided_as_before(write_pictures, tmp_path):
    """Names with the family's in front, and copies on one side, are those of the folder."""
    families = ("Greek", "Korean")
    folder = write_pictures(
        *(f"{family}/{c}/{k}.png" for family in families for c in ("a", "zz") for k in range(8))
    )
    for k in range(4):
        (folder / f"Greek/a/{k} copy.png").write_bytes((folder / f"Greek/a/{k}.png").read_bytes())
    cache = str(tmp_path / "cache")
    array_record.write_records(load(f"folder:{folder}", data_dir=cache), tmp_path / "out")
    shares = {"validation_fraction": 0.25, "test_fraction": 0.25, "data_dir": cache}
    before = load(f"folder:{folder}", **shares)
    assert before.classes.names == ("Greek/a", "Greek/zz", "Korean/a", "Korean/zz")
    for check in (True, False):
        after = load(f"array_record:{tmp_path / 'out'}", check=check, **shares)
        assert (after.fingerprint(), after.classes) == (before.fingerprint(), before.classes)


@pytest.mark.parametrize("key", ["cub200", "aircraft100", "flowers102", "nabirds", "inat2021", "grocery"])
def test_what_is_written_is_read_back(key, source, tmp_path):
    before = source(key)
    array_record.write_records(before, tmp_path / "out")
    after = _again(tmp_path / "out", tmp_path)
    assert after.fingerprint() == before.fingerprint()
    assert (after.name, after.checksum, after.classes) == (before.name, before.checksum, before.classes)
    for split, images in before.splits.items():
        stored = [getattr(s.source, "source", s) for s in (images, after.splits[split])]
        for i in range(len(images)):
            assert stored[0].image(i) == stored[1].image(i)
            assert stored[1].labels[i] == images.labels[i]
            np.testing.assert_array_equal(read_image(images, i), read_image(after.splits[split], i))
    assert "tensorflow" not in sys.modules


def test_a_share_takes_the_same_images_from_files_and_from_records(source, tmp_path):
    array_record.write_records(source("inat2021"), tmp_path / "out")
    options = {"validation": "", "test": "validation", "validation_fraction": 0.25}
    names = []
    for place in (f"inat2021:{tmp_path / 'inat2021'}", f"array_record:{tmp_path / 'out'}"):
        taken = load(place, data_dir=str(tmp_path / "cache"), **options).splits["validation"]
        names.append([taken.name(i) for i in range(len(taken))])
    assert names[0] == names[1]
    assert len(names[0]) == 1


def test_records_are_a_tfds_set(source, tmp_path):
    before = source("cub200")
    array_record.write_records(before, tmp_path / "out")
    after = load(f"tfds:{tmp_path / 'out'}", data_dir=str(tmp_path / "cache"))
    assert after.classes.names == before.classes.names
    assert after.splits["train"].labels.tolist() == before.splits["train"].labels.tolist()
    assert after.splits["test"].image(1) == before.splits["test"].image(1)


def test_a_stopped_writer_continues_by_whole_files(source, tmp_path, monkeypatch):
    monkeypatch.setattr(array_record, "_SHARD", 2)
    before, out = source("cub200"), tmp_path / "out"
    whole, written = array_record._write_shard, []

    def counting(source, indices, *rest):
        whole(source, indices, *rest)
        written.append(indices)

    def stops(source, indices, *rest):
        if indices.start > 0:
            raise KeyboardInterrupt
        counting(source, indices, *rest)

    monkeypatch.setattr(array_record, "_write_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        array_record.write_records(before, out)
    with pytest.raises(UserError, match="not finished; run its `cdml prepare"):
        _again(out, tmp_path)
    monkeypatch.setattr(array_record, "_write_shard", counting)
    (first,) = out.glob("*.array_record-00000-of-00002")
    changed = first.stat().st_mtime_ns
    array_record.write_records(before, out)
    assert len(written) == 3  # no file twice
    assert first.stat().st_mtime_ns == changed
    assert _again(out, tmp_path).fingerprint() == before.fingerprint()
    assert not list(out.glob(".*tmp"))


def test_an_image_that_vanishes_leaves_no_broken_file(source, tmp_path):
    before = source("cub200")
    name = before.splits["train"].name(1)
    (tmp_path / "cub200/CUB_200_2011/images" / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: cannot be opened"):
        array_record.write_records(before, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*array_record*"))


def test_a_full_disk_is_told_in_one_line(source, tmp_path, monkeypatch):
    class Full:
        """As the library's own writer on a full disk: it fails at the end, and again when it is closed."""

        def __init__(self, path, options):
            open(path, "wb").close()

        def write(self, record):
            pass

        def close(self):
            raise RuntimeError("write() failed: No space left on device; writing x; at byte 12226560")

    monkeypatch.setattr(array_record_module, "ArrayRecordWriter", Full)
    with pytest.raises(UserError, match=r"cannot be written \(write\(\) failed: No space left on device\)$"):
        array_record.write_records(source("cub200"), tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*.tmp"))


def test_two_writers_do_not_meet(source, tmp_path):
    before, out = source("cub200"), tmp_path / "out"
    array_record.write_records(before, out)
    with locked(out / ".lock", "held"), pytest.raises(UserError, match="is being written by another command"):
        array_record.write_records(before, out)


def test_a_folder_with_something_else_is_left_alone(source, tmp_path):
    out = tmp_path / "out"
    array_record.write_records(source("cub200"), out)
    with pytest.raises(UserError, match=r"holds CUB-200-2011 \(other images or splits\); choose an empty"):
        array_record.write_records(source("flowers102"), out)
    with pytest.raises(UserError, match="holds other files"):
        array_record.write_records(source("flowers102"), tmp_path / "cub200")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda out: (out / "cdml_jax.json").unlink(),
            r"no cdml_jax\.json there; `cdml prepare SOURCE",
        ),
        (lambda out: (out / "train.jsonl").write_text('["a", 0]\n'), r"train\.jsonl has 1 lines, not 3"),
        (
            lambda out: (out / "test.jsonl").write_text('["a", 0]\n["b", 1]\n'),
            "its lists were changed; prepare it again",
        ),
        (lambda out: (out / "cdml_jax.json").write_text("{"), r"cdml_jax\.json cannot be read"),
    ],
)
def test_damage_is_told(damage, message, source, tmp_path):
    out = tmp_path / "out"
    array_record.write_records(source("cub200"), out)
    damage(out)
    with pytest.raises(UserError, match=message):
        _again(out, tmp_path)


def test_names_that_are_no_ascii_survive(write_pictures, tmp_path):
    folder = write_pictures("grün, blau/ä 1.png", "rot/'2'.png", "rot/3.png")
    prepare(f"folder:{folder}", out=tmp_path / "out", data_dir=str(tmp_path / "cache"))
    dataset = load(f"array_record:{tmp_path / 'out'}", data_dir=str(tmp_path / "cache"))
    assert [dataset.splits["train"].name(i) for i in range(3)] == [
        "grün, blau/ä 1.png",
        "rot/'2'.png",
        "rot/3.png",
    ]
    assert dataset.classes.names == ("grün, blau", "rot")
    assert json.loads((tmp_path / "out/cdml_jax.json").read_text())["splits"] == {"train": 3}
