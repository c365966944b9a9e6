"""What the check knows of each image: damage inside JPEG files, transparency, and what it remembers."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from cdml_jax.data.checking import known
from cdml_jax.data.checking.images import DAMAGED, captured_errors
from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.images.decoding import DARK, TRANSPARENT
from cdml_jax.data.sources import load


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def zeros_in_the_middle(data):
    return data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :]


def half(data):
    return data[: len(data) // 2] + b"\xff\xd9"


@pytest.fixture
def notes(tmp_path):
    """notes(folder) -> a line for each kind."""

    def call(folder, **options):
        problems = Problems("d", whole=True)
        load(f"folder:{folder}", data_dir=str(tmp_path / "cache"), problems=problems, **options)
        return list(problems.lines())

    return call


@pytest.mark.parametrize("damage", [zeros_in_the_middle, half])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}],
    ids=["", "progressive", "4:4:4"],
)
def test_a_jpeg_damaged_in_the_middle_is_named(write_pictures, picture, notes, capfd, damage, options):
    folder = write_pictures(*(f"{name}/{k}.png" for name in ("crow", "owl") for k in range(3)))
    rng = np.random.default_rng(0)
    for k in range(80):  # more than are looked at together
        whole = encoded(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), **options)
        (folder / f"crow/{k:02}.jpg").write_bytes(damage(whole) if k in (7, 70) else whole)
    (line,) = notes(folder)
    assert line.startswith(f"{DAMAGED} (2): crow/07.jpg (")
    assert ", crow/70.jpg (" in line
    assert notes(folder) == [line]  # remembered
    assert "JPEG" not in capfd.readouterr().err


def test_grey_and_whole_images_are_not_damaged(write_pictures, picture, notes):
    folder = write_pictures("crow/1.png", "owl/1.png")
    (folder / "owl/2.jpg").write_bytes(encoded(picture(1)[..., 0]))
    (folder / "owl/3.jpg").write_bytes(encoded(picture(2)) + b"more behind the end")
    assert notes(folder) == []


def test_transparent_and_dark_images_are_noted(write_pictures, picture, notes):
    folder = write_pictures("crow/1.png", "owl/1.png")
    image = picture(1)
    (folder / "crow/clear.png").write_bytes(encoded(np.dstack([image, image[..., 0]]), "PNG"))
    (folder / "owl/dark.tif").write_bytes(encoded(image[..., 0].astype(np.uint16) * 16, "TIFF"))
    assert notes(folder) == [f"{TRANSPARENT}: crow/clear.png", f"{DARK.format(4096)}: owl/dark.tif"]


def test_what_others_print_meanwhile_comes_out_at_the_end(capfd):
    with captured_errors() as printed:
        os.write(2, b"Corrupt JPEG data: premature end of data segment\nlibpng warning: iCCP\n")
    assert printed == ["Corrupt JPEG data: premature end of data segment"]
    assert capfd.readouterr().err == "libpng warning: iCCP\n"


def test_a_list_in_which_any_bit_has_changed_is_not_believed(write_pictures, tmp_path):
    folder = write_pictures("crow/1.png", "owl/1.png")
    load(f"folder:{folder}", data_dir=str(tmp_path))
    (path,) = (tmp_path / "checked").iterdir()
    whole, data = known.read(path), path.read_bytes()
    assert len(whole) == 2
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(data), 300, replace=False):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert known.read(path) in ({}, whole)  # the latter where it is the space between two words


def test_images_are_read_again_where_nothing_is_to_be_taken_on_trust(write_pictures, tmp_path):
    folder = write_pictures("crow/1.png", "crow/2.png", "owl/1.png")

    def digests(**options):
        dataset = load(f"folder:{folder}", data_dir=str(tmp_path), **options)
        return dataset.digests("train").tolist(), dataset.contents["train"]

    before, file = digests(), folder / "crow/2.png"
    stamp, data = os.stat(file), file.read_bytes()
    file.write_bytes(data[:-1] + b"\0")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert digests() == before  # by size and time of change it is the same
    after = digests(remembered=False)
    assert [a == b for a, b in zip(before[0], after[0])] == [True, False, True]
    assert after[1] != before[1]
