import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from cdml_jax.data.images.decoding import DARK, MAX_PIXELS, TRANSPARENT, decode, inspect
from cdml_jax.data.images.kinds import reads_avif
from cdml_jax.errors import UserError


def _encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def rgb(picture):
    return picture(1, 24, 40)


def test_channels_are_red_green_blue(png):
    assert decode(png(np.full((2, 3, 3), (250, 20, 5), np.uint8)))[1, 2].tolist() == [250, 20, 5]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(kind, rgb):
    np.testing.assert_array_equal(decode(_encode(Image.fromarray(rgb), kind)), rgb)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_nearly(kind, rgb):
    assert np.abs(decode(_encode(Image.fromarray(rgb), kind, quality=95)) - rgb.astype(int)).mean() < 4


def test_cmyk(rgb):
    decoded = decode(_encode(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(decoded - rgb.astype(int)).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_high_byte(kind, rgb):
    grey = rgb[:, :, 0].astype(np.uint16) * 256 + 99
    data = cv2.imencode(".png" if kind == "PNG" else ".tiff", grey)[1].tobytes()
    np.testing.assert_array_equal(decode(data), np.repeat(rgb[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_greyscale_becomes_three_equal_channels(kind, rgb):
    decoded = decode(_encode(Image.fromarray(rgb).convert("L"), kind))
    assert decoded.shape == rgb.shape
    assert (decoded[:, :, 0] == decoded[:, :, 2]).all()


def test_palette(rgb):
    palette = Image.fromarray(rgb).quantize(32)
    np.testing.assert_array_equal(decode(_encode(palette, "PNG")), np.array(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparency_is_composed_over_white(kind, rgb):
    alpha = np.linspace(0, 255, rgb[..., 0].size).astype(np.uint8).reshape(rgb.shape[:2])
    image, traits = inspect(_encode(Image.fromarray(np.dstack([rgb, alpha])), kind))
    share = alpha[..., None] / 255
    np.testing.assert_array_equal(image, np.round(rgb * share + 255 * (1 - share)))
    assert traits == [TRANSPARENT]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_opaque_image_with_an_alpha_channel_is_as_without(kind, rgb):
    opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    image, traits = inspect(_encode(Image.fromarray(opaque), kind))
    np.testing.assert_array_equal(image, rgb)
    assert traits == []


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(kind, rgb):
    palette = Image.fromarray(rgb).quantize(16)
    image, traits = inspect(_encode(palette, kind, transparency=3))
    np.testing.assert_array_equal((image == 255).all(2), np.asarray(palette) == 3)
    assert traits == [TRANSPARENT]


@pytest.mark.parametrize("largest", [255, 1023, 4095, 16383, 65535])
def test_values_that_do_not_fill_sixteen_bits_are_found(largest, rgb):
    """8, 10, 12 and 14 bits in 16: in PNG and TIFF they come out dark; a PGM says how large they are."""
    grey = (np.arange(rgb[..., 0].size).reshape(rgb.shape[:2]) * largest // (rgb[..., 0].size - 1)).astype(
        np.uint16
    )
    limit = 4096 if largest < 4096 else 16384
    expected = [DARK.format(limit)] if largest < 16384 else []
    for data in (
        cv2.imencode(ending, pixels)[1].tobytes()
        for ending in (".png", ".tiff")
        for pixels in (grey, np.dstack([grey] * 3))
    ):
        assert inspect(data)[1] == expected
    pgm = (
        b"P5 40 24 %d\n" % largest
        + (grey.astype(">u2") if largest > 255 else grey.astype(np.uint8)).tobytes()
    )
    image, traits = inspect(pgm)
    np.testing.assert_allclose(image[..., 0], grey / largest * 255, atol=1.01)
    assert traits == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_orientation_of_another_type_is_applied(kind, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    short = _encode(Image.fromarray(rgb), kind, exif=exif)
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    long = short.replace(entry, b"\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06")
    assert long != short
    if kind == "PNG":  # whose chunks have checksums
        at = long.find(b"eXIf")
        (length,) = struct.unpack(">I", long[at - 4 : at])
        end = at + 4 + length
        long = long[:end] + struct.pack(">I", zlib.crc32(long[at:end])) + long[end + 4 :]
    assert decode(short).shape == (40, 24, 3)
    np.testing.assert_array_equal(decode(long), decode(short))


@pytest.mark.skipif(not reads_avif(), reason="this Pillow does not read AVIF")
def test_avif_is_read(rgb):
    assert np.abs(decode(_encode(Image.fromarray(rgb), "AVIF", quality=95)) - rgb.astype(int)).mean() < 4


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x0a\x00\x10", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop's format"),
    ],
)
def test_a_kind_that_is_not_read_is_named(head, kind):
    with pytest.raises(UserError, match=f"^{kind}, which is not read: save it as JPEG or PNG$"):
        decode(head + bytes(200))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    data = _encode(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        **{"lossless": True} if kind == "WEBP" else {},
    )
    np.testing.assert_array_equal(decode(data), np.full((6, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied(kind, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    options = {} if kind == "TIFF" else {"quality": 95}
    decoded = decode(_encode(Image.fromarray(rgb), kind, exif=exif, **options))
    assert np.abs(decoded - np.rot90(rgb, -1).astype(int)).mean() < 4


def test_a_jpeg_without_its_last_bytes_is_truncated(rgb):
    data = _encode(Image.fromarray(rgb), "JPEG")[:-2]
    with pytest.raises(UserError, match=r"^truncated$"):
        decode(data)


def _png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _broken(kind: str) -> bytes:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    jpeg, png, gif = _encode(image, "JPEG"), _encode(image, "PNG"), _encode(image, "GIF")
    huge = struct.pack(">HH", 60_000, 60_000)
    size = struct.pack(">HH", 40, 50)
    return {
        "empty": b"",
        "text": b"This is not a picture.\n" * 20,
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "truncated progressive jpeg": _encode(image, "JPEG", progressive=True)[:1500],
        "truncated png": png[: len(png) // 2],
        "jpeg header alone": jpeg[:30],
        "png signature alone": png[:8],
        "truncated gif": gif[: len(gif) // 2],
        "jpeg bomb": jpeg.replace(size, huge, 1),
        "png bomb": _png_header(50_000, 50_000) + png[33:],
        "gif bomb": gif[:6] + struct.pack("<HH", 65_000, 65_000) + gif[10:],
        "float tiff": _encode(Image.fromarray(rgb[:, :, 0].astype(np.float32)), "TIFF"),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "zeros": bytes(5000),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "zero bytes"),
        ("text", "not an image that can be read"),
        ("html", "not an image that can be read: a web page"),
        ("truncated jpeg", "truncated"),
        ("truncated progressive jpeg", "truncated"),
        ("truncated png", "truncated"),
        ("jpeg header alone", "truncated|not an image|damaged"),
        ("png signature alone", "truncated|not an image"),
        ("truncated gif", "truncated"),
        ("jpeg bomb", f"60000 x 60000 pixels, more than {MAX_PIXELS:,}"),
        ("png bomb", "50000 x 50000 pixels"),
        ("gif bomb", "pixels"),
        ("float tiff", "32-bit or floating-point pixels"),
        ("postscript", "not an image that can be read"),
        ("zeros", "not an image that can be read"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_its_reason(kind, message):
    with pytest.raises(UserError, match=message):
        decode(_broken(kind))


def _tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    """A grey TIFF file without compression, written field by field."""
    height, width = values.shape
    if bits == 12:
        first, second = values.reshape(-1, 2).astype(int).T
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
        data = packed.astype(np.uint8).tobytes()
    else:
        data = values.astype("<u2" if bits == 16 else np.uint8).tobytes()
    long = {256: width, 257: height, 273: 8 + 2 + 12 * 9 + 4, 278: height, 279: len(data)}
    tags = long | {258: bits, 259: 1, 262: photometric, 277: 1}
    fields = (struct.pack("<HHII", tag, 4 if tag in long else 3, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(fields) + bytes(4) + data


@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (16, 0), (16, 1), (12, 1)])
def test_grey_tiff_of_any_depth_has_the_same_brightness(bits, photometric):
    """0 is white where the photometric interpretation is 0; 12 bits are no dark 16 bits."""
    ramp = np.arange(960).reshape(24, 40) / 959
    image, traits = inspect(_tiff(np.floor(ramp * (2**bits - 1)), bits, photometric))
    np.testing.assert_allclose(image[..., 1] / 255, ramp if photometric else 1 - ramp, atol=0.01)
    assert traits == []


def test_a_broken_pixel_does_not_hide_that_an_image_is_dark():
    values = np.arange(4000, dtype=np.uint16).reshape(50, 80)
    values[3, 5] = 65535
    assert inspect(cv2.imencode(".png", values)[1].tobytes())[1] == [DARK.format(4096)]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS; run git lfs pull"),
        (b"\n<!DOCTYPE HTML><title>404</title>", "a web page"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
        (b"\0\0\0\x18ftypisom\0\0\x02\0", "a film"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg width="9"/>', "SVG; save it as PNG"),
        (
            _tiff(np.zeros((2, 2)), 16, 1).replace(
                b"\x02\x01\x03\0\x01\0\0\0\x10", b"\x02\x01\x03\0\x01\0\0\0\x40"
            ),
            "TIFF",
        ),
    ],
)
def test_what_has_an_images_name_and_is_none_is_named(head, reason):
    with pytest.raises(UserError, match=f"^not an image that can be read: {reason}"):
        decode(head + bytes(99))
