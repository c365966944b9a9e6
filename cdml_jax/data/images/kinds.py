"""Which files are images, by the endings of their names and by their first bytes."""

from __future__ import annotations

import functools
import os
import re

from cdml_jax.errors import UserError

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp")
_OTHERS = (".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")

# Images of kinds that are not read here: they are counted, and named where they are given.
_UNREAD = re.compile(
    r"\.(?:ai|arw|avif|avifs|bpg|cr2|cr3|crw|cur|dcm|dds|dng|eps|erf|exr|flif|fits|hdp|hdr|heic|heics|heif"
    r"|heifs|hif|icns|ico|j2c|j2k|jng|jp2|jpc|jpf|jpm|jpx|jxl|jxr|kdc|mng|mpo|mrw|nef|nrw|orf|pam|pcx"
    r"|pef|pfm|psb|psd|qoi|raf|raw|rw2|rwl|sgi|sr2|srf|srw|svg|svgz|tga|wdp|wmf|x3f|xbm|xcf|xpm)"
)
# What lies among photographs and is none; every other unknown file is opened and judged by its first bytes.
_PLAIN = re.compile(
    r"\.(?:aae|avi|bin|csv|db|doc|docx|gz|h5|hdf5|htm|html|ini|ipynb|json|jsonl|log|m|m4v|mat|md|mkv|mov|mp4"
    r"|mpg|npy|npz|parquet|pdf|pickle|pkl|pt|pth|py|rar|rst|sh|sqlite|srt|tar|tfrecord|tgz|toml|tsv|txt"
    r"|url|wav|xls|xlsx|xml|xmp|yaml|yml|zip)"
)

NO_ENDING = "without an ending"
ADVICE = "save them as JPEG or PNG, with the ending .jpg or .png"

_BRANDS = {  # of ISO base media files, whose first box is `ftyp`
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "Canon's raw format",
}
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"8BPS": "Photoshop's format",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"II\xbc\x01": "JPEG XR",
    b"FUJIFILMCCD-RAW": "Fujifilm's raw format",
    b"v/1\x01": "OpenEXR",
    b"gimp xcf": "GIMP's format",
    b"qoif": "QOI",
    b"<svg": "SVG",
}
# What is met under an image's name and is none. Not in the table above: such files are not counted as images.
_NO_IMAGES = {
    b"version https://git-lfs": "a pointer of Git LFS; run git lfs pull",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"%pdf": "a PDF document",
    b"%!ps": "a PostScript document",
    b"\x1f\x8b": "a gzip archive",
    b"pk\x03\x04": "a ZIP archive",
    b"\0\0\x01\0": "an icon; save it as PNG",
    b"\0\x05\x16\x07": "what macOS keeps of a file, not the file",
    b"p7\n": "PAM; save it as PNG",
    b"#define ": "XBM; save it as PNG",
}
_READ = frozenset(("JPEG", "PNG", "GIF", "TIFF", "BMP", "WebP"))


@functools.cache
def reads_avif() -> bool:
    """Whether the installed Pillow decodes AVIF."""
    from PIL import features  # here: most commands end before they need it

    return "avif" in features.get_supported_modules()


@functools.cache
def readable_endings() -> frozenset[str]:
    """The file name endings, in lower case, that images of a folder or a list may have."""
    return frozenset((*_JPEG, *_OTHERS, *((".avif",) if reads_avif() else ())))


def is_readable(name: str) -> bool:
    """Whether a file of this name is taken for an image.

    >>> is_readable("crow/1.JFIF"), is_readable("crow/1.heic")
    (True, False)
    """
    return os.path.splitext(name)[1].lower() in readable_endings()


def left_out(path: str | os.PathLike) -> str:
    """The ending under which a file that is not taken is counted; "" where it is not an image.

    Files of endings that say nothing, and of none, are opened and judged by their first bytes.
    """
    ending = os.path.splitext(path)[1].lower()
    if _UNREAD.fullmatch(ending):
        return ending
    if _PLAIN.fullmatch(ending):
        return ""
    try:
        with open(path, "rb") as file:
            kind = kind_of(file.read(64))
    except OSError:
        return ""
    return (ending or NO_ENDING) if kind else ""


def kind_of(head: bytes) -> str:
    """What an image file is by its first 64 bytes; "" for what is not known.

    >>> kind_of(b"\\0\\0\\0\\x18ftypheic"), kind_of(b"a text")
    ('HEIC', '')
    """
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, len(head) - 3, 4))]
        # HEIC and AVIF share their container's brand: the more telling one may come later.
        found = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "AVIF" if "AVIF" in found else found[0] if found else ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[15:18] == b"\0\0\0":
        return "BMP"
    if head[8:10] == b"CR" and head[:4] == b"II*\0":
        return "Canon's raw format"
    return next((kind for start, kind in _BEGINNINGS.items() if head.startswith(start)), "")


def reason_of(data: bytes) -> str:
    """Why what has an image's name is none, as the end of a sentence; "" where it is not known.

    >>> reason_of(b"<!DOCTYPE html><html>404</html>"), reason_of(b"noise")
    (': a web page', '')
    """
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<?xml") and b"<svg" in head:
        return ": SVG; save it as PNG"
    if head[4:8] == b"ftyp":
        return ": a film"
    if kind_of(data[:64]) == "TIFF":
        return ": TIFF of a kind that is not read; save it with 8 bits a channel"
    return next((f": {what}" for start, what in _NO_IMAGES.items() if head.startswith(start)), "")


def refuse_unread(data: bytes) -> None:
    """Names the kind of an image that is not read.

    Raises:
      UserError: the bytes are of such a kind.
    """
    kind = kind_of(data[:64])
    if kind and kind not in _READ and not (kind == "AVIF" and reads_avif()):
        raise UserError(f"{kind}, which is not read: save it as JPEG or PNG")
