import pytest

from cdml_jax.data.images.kinds import NO_ENDING, is_readable, kind_of, left_out, reads_avif

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPE", "a.jfif", "a.pjpeg", "a.pjp", "a.apng", "a.dib", "a.pbm", "a.b.pnm", "a.tiff"]
)
def test_other_names_of_the_kinds_that_are_read_are_taken(name):
    assert is_readable(name)


def test_avif_is_taken_where_it_is_read():
    assert is_readable("a.avif") == reads_avif()


@pytest.mark.parametrize(
    ("name", "content", "ending"),
    [
        ("a.heic", b"", ".heic"),
        ("a.CR3", b"", ".cr3"),
        ("a.jxl", b"", ".jxl"),
        ("a.tga", b"", ".tga"),
        ("a.JPG~", b"\xff\xd8\xff\xe0", ".jpg~"),
        ("a.jpg_original", b"\xff\xd8\xff\xe1", ".jpg_original"),
        ("a.png.part", b"\x89PNG\r\n\x1a\n", ".part"),
        ("0001", b"II*\0", NO_ENDING),
        ("0002", HEIC, NO_ENDING),
        ("0003", b"RIFF\0\0\0\0WEBPVP8 ", NO_ENDING),
        ("a.jpg~", b"a text", ""),
        ("README", b"Photographs of birds", ""),
        ("a.txt", b"\xff\xd8\xff\xe0", ""),
        ("a.xml", b"", ""),
    ],
)
def test_images_that_are_not_taken_are_known_by_ending_or_by_content(tmp_path, name, content, ending):
    (tmp_path / name).write_bytes(content)
    assert left_out(tmp_path / name) == ending


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (HEIC, "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01", "Canon's raw format"),
        (b"II*\0\x10\0\0\0CR\x02\0", "Canon's raw format"),
        (b"BM\x36\x10\x0e\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "BMP"),
        (b"BMW and other cars", ""),
        (b"\0\0\0\x18ftypisom", ""),  # a film
        (b"", ""),
    ],
)
def test_contents_are_told_apart(head, kind):
    assert kind_of(head) == kind
