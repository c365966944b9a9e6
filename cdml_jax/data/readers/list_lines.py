"""A line of a list file: its path, its numbers, whether it is a header, and which file it means."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from cdml_jax.data.images.kinds import is_readable

_LARGEST = 2**31 - 1
_BETWEEN = r"[,;|\t]"
_OTHERWISE = re.compile(r"(?P<path>.*\.\w{2,5})\"?[,;|\s]+(?P<fields>[^,;|\s].*)")
# A line of such words alone is a header beyond doubt.
_HEADER_WORDS = re.compile(
    r"(?:image|img|photo|picture|file|path|name|url|id|index|labels?|class|category|target|species|coarse|super"
    r"|family|parent|split|[\W\d_])*",
    re.IGNORECASE,
)


_PATH = re.compile(r"image|img|photo|picture|file|path|name|url|^id$", re.IGNORECASE)
_LABEL = re.compile(r"label|class|categor|target|species", re.IGNORECASE)
_COARSE = re.compile(r"coarse|super|family|parent|group|genus|order", re.IGNORECASE)


def whole_number(text: str) -> int | None:
    """The number that a field holds; None where it is none, or one that labels cannot have."""
    try:
        value = int(text)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None


def is_integer(text: str) -> bool:
    """Whether a field holds a whole number, of any size."""
    return bool(re.fullmatch(r"[+-]?\d+", text))


def is_unnamed(header: str) -> bool:
    """Whether the first column of a header has no name, as that of the rows' numbers in pandas.

    >>> is_unnamed(",path,label"), is_unnamed("path,label")
    (True, False)
    """
    return bool(re.match(rf'(?:"")?{_BETWEEN}', header))


def without_index(line: str) -> str:
    """A line without the row's number in front, where there is one.

    >>> without_index("12,crow/1.png,0"), without_index("crow/1.png,0")
    ('crow/1.png,0', 'crow/1.png,0')
    """
    return re.sub(rf'^"?\d+"?{_BETWEEN}', "", line)


def is_known_header(line: str) -> bool:
    """Whether a line is a header beyond doubt.

    >>> is_known_header("image_path,label"), is_known_header("photo of;what")
    (True, False)
    """
    return bool(_HEADER_WORDS.fullmatch(line))


def misplaced(line: str) -> bool:
    """Whether a header says that its columns are not a path, a label and perhaps a coarse label.

    >>> misplaced("label,path"), misplaced("path,label,width"), misplaced("image,species,family")
    (True, True, False)
    """
    words = [word.strip().strip('"') for word in re.split(_BETWEEN, line.strip())]
    words = words[1:] if words and not words[0] else words  # over row numbers, as pandas writes them
    labels = [i for i, word in enumerate(words) if _LABEL.search(word) and not _COARSE.search(word)]
    paths = [i for i, word in enumerate(words) if _PATH.search(word) and i not in labels]
    if not labels or not paths:
        return False  # in words of one's own: the lines themselves show it
    return 1 not in labels or 0 not in paths or not all(_COARSE.search(word) for word in words[2:])


def is_header(line: str, root: Path) -> bool:
    """Whether a first line names columns: words between separators, and neither a number nor a file."""
    words = [word.strip().strip('"') for word in re.split(_BETWEEN, line.strip())]
    if any(whole_number(word) is not None or is_readable(word) for word in words):
        return False
    return is_known_header(line) or (len(words) > 1 and not os.path.isfile(root / words[0]))


def split_line(line: str) -> tuple[str, list[str]]:
    """The path, which may hold commas, and the fields after it; spaces, tabs and semicolons separate too.

    >>> split_line("a, b.png, 3, 1"), split_line("crow/1.png 3"), split_line("crow/1.png\\t3")
    (('a, b.png', ['3', '1']), ('crow/1.png', ['3']), ('crow/1.png', ['3']))
    """
    fields = line.strip().split(",")
    end = 0
    for i in range(1, len(fields)):
        if is_readable(",".join(fields[:i]).strip().strip('"')):
            end = i
            break
    otherwise = None if end else _OTHERWISE.fullmatch(line.strip())
    if otherwise and (len(fields) == 1 or is_readable(otherwise["path"])):
        path, rest = otherwise["path"], re.split(r"[,;|\s]+", otherwise["fields"].strip())
    else:
        path, rest = ",".join(fields[: max(end, 1)]), fields[max(end, 1) :]
    path = path.strip().strip('"').replace("\\", "/")
    fields = [field.strip().strip('"') for field in rest]
    if len(fields) > 1 and not fields[-1]:
        fields.pop()  # what ends in a separator has no further field
    return os.path.normpath(path) if path else "", fields


class Disk:
    """What lies below a folder, each folder of it read once.

    Args:
      root: the folder.
    """

    def __init__(self, root: Path):
        self._root = root
        self._entries: dict[str, list[str]] = {}

    def find(self, name: str, *, caseless: bool = False) -> str | None:
        """The file that a list names, if need be in other code points: some disks keep é as two characters.

        Args:
          name: the path in the list.
          caseless: whether capital and small letters are the same, too, and what looks alike.

        Returns:
          The path on the disk; None where there is none, or more than one.
        """
        if os.path.isfile(self._root / name):
            return name

        def plain(text: str) -> str:
            if not caseless:
                return unicodedata.normalize("NFC", text)
            text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
            return " ".join(text.casefold().split())

        found = ""
        for part in name.split("/"):
            if not os.path.exists(self._root / found / part):
                alike = [entry for entry in self._in(found) if plain(entry) == plain(part)]
                if len(alike) != 1:
                    return None
                part = alike[0]
            found = f"{found}/{part}".removeprefix("/")
        return found if os.path.isfile(self._root / found) else None

    def _in(self, folder: str) -> list[str]:
        if folder not in self._entries:
            try:
                self._entries[folder] = os.listdir(self._root / folder)
            except OSError:
                self._entries[folder] = []
        return self._entries[folder]
