"""What comes back is what was written; one bit more or less, anywhere, is damage."""

import io
import subprocess
import sys

import numpy as np
import pytest

from cdml_jax.system.archives import Archive, DamagedError, write_archive

RECORD = {"row": "cdml", "names": ["鸟/кряква", "a\nb"], "history": [{"loss": None}]}
ARRAYS = {"counts": np.arange(12).reshape(3, 4), "empty": np.zeros((0, 5), np.float16)}


def test_round_trip(tmp_path):
    write_archive(tmp_path / "a.npz", RECORD, ARRAYS)
    archive = Archive(tmp_path / "a.npz")
    assert archive.record == RECORD
    assert "counts" in archive
    assert "others" not in archive
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(archive[name], array)
        assert archive[name].dtype == array.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_the_same_contents_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_archive(tmp_path / name, RECORD, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    path = tmp_path / "a.npz"
    write_archive(path, RECORD, ARRAYS)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(DamagedError):
            Archive(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedError):
            Archive(path)


def test_numpy_and_zip_read_it(tmp_path):
    write_archive(tmp_path / "a.npz", RECORD, ARRAYS)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["counts"], ARRAYS["counts"])
    tested = subprocess.run(
        [sys.executable, "-m", "zipfile", "-t", tmp_path / "a.npz"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Done testing" in tested.stdout


def test_pickles_are_refused_and_names_are_ours(tmp_path):
    write_archive(tmp_path / "a.npz", RECORD, {"odd": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        Archive(tmp_path / "a.npz")["odd"]
    with pytest.raises(ValueError, match="record"):
        write_archive(tmp_path / "b.npz", {}, {"record": np.zeros(1)})
    with pytest.raises(ValueError, match="JSON"):
        write_archive(tmp_path / "b.npz", {"loss": float("nan")}, {})
    buffer = io.BytesIO()
    np.savez(buffer, record=np.zeros(1))
    (tmp_path / "b.npz").write_bytes(buffer.getvalue())
    with pytest.raises(DamagedError):
        Archive(tmp_path / "b.npz")
