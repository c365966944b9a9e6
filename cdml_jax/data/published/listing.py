"""What a publisher's lists say, before any image is opened; how lists are found and read."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import KnownBox
from cdml_jax.data.published.catalogue import PublishedSet
from cdml_jax.errors import UserError

ABSENT = "file that does not exist"


class Row(NamedTuple):
    """One image: what the publisher's list calls it, where it lies below the listing's root, its class."""

    name: str
    file: str
    label: int


@dataclasses.dataclass(frozen=True)
class Listing:
    """A published set as it lies in a folder.

    Attributes:
      root: what the rows' files are relative to.
      classes: names in the order of the labels, which count from 0, and families where the set has them.
      rows: the images of each of the publisher's splits, in the publisher's order.
      crop_bottom: how many rows of pixels at the foot of every image are no part of it.
      boxes: of the objects, by the images' names, where the publisher has them.
    """

    root: Path
    classes: Classes
    rows: Mapping[str, Sequence[Row]]
    crop_bottom: int = 0
    boxes: Mapping[str, KnownBox] = dataclasses.field(default_factory=dict)


def locate(folder: Path, published: PublishedSet, wanted: Mapping[str, str]) -> list[Path]:
    """Files and folders of a set: in `folder`, or in a folder one or two levels below it.

    Args:
      folder: where the archives were extracted.
      published: the set.
      wanted: the name of the archive that holds it, for each thing to find.

    Returns:
      The paths, in the order of `wanted`.

    Raises:
      UserError: there is no such folder, or something is missing; it says where to get it.
    """
    where = f"{published.key}:{folder}"
    if not folder.is_dir():
        raise UserError(f"{where}: there is no such folder; extract there {published.where()}")
    found = {name: find(folder, name) for name in wanted}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        archives = published.where(*(wanted[name] for name in missing)) or published.home
        raise UserError(f"{where}: {', '.join(missing)} missing; extract there {archives}")
    return [path for path in found.values() if path is not None]


def find(folder: Path, name: str) -> Path | None:
    """A file or folder in `folder` or at most two levels below; the inner one, if it holds its own name."""
    level = [folder]
    for depth in range(3):
        for base in level:
            path = base / name
            if path.exists():
                # Some unpackers make a folder named after the archive and put the archive's folder into it.
                return path / path.name if (path / path.name).is_dir() else path
        if depth < 2:
            level = [Path(entry.path) for base in level for entry in _folders(base)]
    return None


def _folders(base: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted((e for e in os.scandir(base) if e.is_dir() and e.name[0] != "."), key=lambda e: e.name)
    except OSError:
        return []


def read_text(path: Path) -> str:
    """A list's text.

    Raises:
      UserError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_pairs(path: Path, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """The lines "key value" of a list, the value with spaces if it has them.

    Args:
      path: the list.
      problems: collects lines that are no such pair, and keys given twice.

    Yields:
      The key, the value, and "FILE line N".
    """
    seen: set[str] = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        key, _, value = line.strip().partition(" ")
        if not value:
            problems.add("line that is not `id value`", f"{where} ({line.strip()[:60]})")
        elif key in seen:
            problems.add("id given twice", f"{where} ({key})")
        else:
            seen.add(key)
            yield key, value.strip(), where


def read_matlab(path: Path, *names: str) -> list[Any]:
    """Variables of a MATLAB file, with dimensions of length 1 dropped.

    Raises:
      UserError: it cannot be read, or has no such variable.
    """
    import scipy.io  # here: most sets need none of it

    try:
        content = scipy.io.loadmat(str(path), squeeze_me=True)
    except Exception as error:  # the reader raises whatever the damage leads to
        raise UserError(f"{path}: cannot be read as a MATLAB file ({error})") from error
    absent = [name for name in names if name not in content]
    if absent:
        raise UserError(f"{path}: has no variable {', '.join(absent)}; it is not the publisher's file")
    return [content[name] for name in names]


def distinct(names: Sequence[str], marks: Sequence[str]) -> tuple[str, ...]:
    """The names, each that occurs more than once with its mark in brackets.

    >>> distinct(["crow", "owl", "crow"], ["7", "8", "9"])
    ('crow (7)', 'owl', 'crow (9)')
    """
    times = Counter(names)
    return tuple(f"{n} ({m})" if times[n] > 1 else n for n, m in zip(names, marks, strict=True))


def note_absent_files(listing: Listing, problems: Problems) -> None:
    """Adds to `problems` every listed file that is not there; each folder is read once."""

    @functools.cache
    def present(folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(listing.root / folder))
        except OSError:
            return frozenset()

    for row in itertools.chain.from_iterable(listing.rows.values()):
        folder, _, file = row.file.rpartition("/")
        if file not in present(folder):
            problems.add(ABSENT, row.file)
