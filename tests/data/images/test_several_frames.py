"""Files of more than one picture, and files that are no pictures."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from cdml_jax.data.checking.images import captured_errors
from cdml_jax.data.images.decoding import SEVERAL, inspect
from cdml_jax.data.images.kinds import reads_avif
from cdml_jax.errors import UserError

KINDS = ["GIF", "PNG", "TIFF", "WEBP", *(["AVIF"] if reads_avif() else [])]


def written(pictures, kind, **options):
    file = io.BytesIO()
    first, *others = map(Image.fromarray, pictures)
    first.save(file, kind, **({"save_all": True, "append_images": others} if others else {}), **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_of_several_is_used_and_that_is_noted(picture, kind):
    pictures = [picture(k) for k in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    image, traits = inspect(written(pictures, kind, **options))
    alone, none = inspect(written(pictures[:1], kind, **options))
    assert (traits, none) == ([SEVERAL], [])
    tolerance = 20 if kind in ("GIF", "AVIF") else 0  # palettes; lossy
    assert np.abs(image.astype(int) - alone).mean() <= tolerance


def test_a_damaged_second_frame_is_nobodys_loss(picture):
    data = written([picture(1), picture(2)], "GIF")
    first, _ = inspect(data)
    cut = data.rindex(b"\x21\xf9")  # what precedes the second frame
    again, _ = inspect(data[: cut + 20] + b"\xff" * 50 + b";")
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n<!DOCTYPE HTML><title>404</title>", "not an image that can be read: a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; run git lfs pull"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
    ],
)
def test_what_downloads_leave_under_an_images_name_is_named(data, message):
    with pytest.raises(UserError, match=message):
        inspect(data)


def test_what_libraries_print_of_images_that_are_refused_stays_unsaid(picture, capfd):
    data = bytearray(cv2.imencode(".png", cv2.resize(picture(1), (240, 200)))[1].tobytes())
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    tiff = written([picture(1)], "TIFF", compression="tiff_lzw")
    with captured_errors() as printed:
        for damaged in (bytes(data), tiff[: len(tiff) * 2 // 3] + bytes(9)):
            with pytest.raises(UserError):
                inspect(damaged)
    assert (printed, capfd.readouterr().err) == ([], "")
