"""List files of `path, label[, coarse label]`, with an optional table of class names, as a data set."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.checking.verify import NO_TRAINING_IMAGE, out_of_range
from cdml_jax.data.classes import Classes, distinct_names, note_alike
from cdml_jax.data.dataset import Dataset, FileSource
from cdml_jax.data.dividing.splits import ALIASES
from cdml_jax.data.readers.list_lines import (
    Disk,
    is_header,
    is_integer,
    is_known_header,
    is_unnamed,
    misplaced,
    split_line,
    whole_number,
    without_index,
)
from cdml_jax.data.readers.split_folders import role_of
from cdml_jax.errors import UserError
from cdml_jax.system.files import path_of

_LISTS = (".txt", ".csv", ".tsv")
_UNREAD_NAMES = ("classes.txt", "class_names.txt", "names.txt", "labels.txt", "classes.tsv", "labels.csv")
_UNNAMED = "label without a name"
_NO_ROW = "line that is not `path, label[, coarse label]`"
_OUTSIDE = "path that leaves the folder"
_TOO_LARGE = "label that is too large"
_NO_NUMBER = "label that is not a whole number"
_NO_COLUMNS = "header whose columns are not `path, label[, coarse label]`"
_NOT_FROM_0 = "labels that do not count from 0"


class Row(NamedTuple):
    """An image as a list has it: its path there, its labels, "FILE line N", and its path on the disk."""

    name: str
    label: int
    coarse: int | None
    where: str
    file: str


Rows = list[Row]


def read_lists(folder: str, names: dict[str, str], problems: Problems) -> Dataset:
    """The images that a folder's list files name.

    The lists are train.txt, validation.txt (or val.txt) and test.txt, or NAME.txt for a split called NAME.
    Labels count from 0. classes.csv, if there, gives names: columns name, label, coarse name, coarse label,
    found by the words of its header or else by position.

    Args:
      folder: holds the lists; paths in them are relative to it and stay inside it.
      names: the splits' names by role; "" for none.
      problems: collects what is found wrong.

    Returns:
      The data set. Families are the coarse labels, numbered from 0 in their order.

    Raises:
      UserError: the folder or the training list is missing, or a file is not text.
    """
    root = Path(path_of(folder))
    if not root.is_dir():
        wrong = "is a file: give its folder" if root.is_file() else "there is no such folder"
        raise UserError(f"list:{folder}: {wrong}")
    listed = _list_files(root, names)
    problems.advise(_NO_NUMBER, "a line is `path, label`; labels are numbers, which classes.csv can name")
    problems.advise(_OUTSIDE, f"paths are relative to {root}, and stay in it")
    _note_unread(root, {path.name for path in listed.values()}, problems)
    lists = {role: _parse(path, root, problems) for role, path in listed.items()}
    if problems.has() and not all(lists.values()):
        problems.raise_if_any()  # what would be said of empty splits and classes only follows from this
    table = _class_table(root / "classes.csv", problems)
    labels = [row.label for rows in lists.values() for row in rows]
    if labels and not table and min(labels) > 1:
        problems.add(_NOT_FROM_0, f"they are {min(labels)} to {max(labels)}; number the classes 0, 1, 2, …")
        problems.raise_if_any()  # all else that would be said only follows from this
    if table:
        class_names = tuple(name for name, _, _ in table)
    else:
        # A class needs an image, so a label beyond their number is a mistake and would invent classes.
        count = max((label + 1 for label in labels if label < len(labels)), default=0)
        class_names = tuple(str(label) for label in range(count))
    if labels and min(labels) == 1:
        for kind in (NO_TRAINING_IMAGE, out_of_range(len(class_names))):
            problems.advise(kind, "labels count from 0; do yours begin at 1?")
        problems.advise(_UNNAMED, "do yours begin at 1?")
    families, family_names = _families(lists, table, len(class_names), problems)
    if families is not None and family_names is not None:
        class_names = distinct_names(class_names, [family_names[k] for k in families], problems.note)
    _note_equal_names(class_names, problems)
    splits = {
        role: FileSource(
            root, [row.file for row in rows], [row.label for row in rows], names=[row.name for row in rows]
        )
        for role, rows in lists.items()
    }
    return Dataset(root.resolve().name, Classes(class_names, families, family_names), splits)


def _list_files(root: Path, names: dict[str, str]) -> dict[str, Path]:
    found = {}
    for role, name in names.items():
        choices = ALIASES.get(role, (name,)) if name == role else (name,)
        choices = tuple(c if c.endswith(".txt") else f"{c}.txt" for c in choices if c)
        path = next((root / choice for choice in choices if (root / choice).is_file()), None)
        if path is not None:
            found[role] = path
        elif role == "train" or (name and name != role):
            others = [f.name for c in choices for f in sorted(root.glob(f"{c.removesuffix('.txt')}.*"))]
            hint = f" (there is {others[0]}: rename it)" if others else ""
            raise UserError(f"list:{root}: there is no {' or '.join(choices) or 'training list'}{hint}")
    return found


def _note_unread(root: Path, read: set[str], problems: Problems) -> None:
    """Notes lists of a name that one would take for a split's, and that are not read."""
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in _LISTS and role_of(path.stem.lower()) and path.name not in read:
            problems.note("list that is not read", path.name)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}: not a text file; save it as UTF-8 text")
    return text


def _parse(path: Path, root: Path, problems: Problems) -> Rows:
    rows: Rows = []
    seen: dict[str, tuple[int, int]] = {}  # the line and the label
    first, disk, here, indexed = True, Disk(root), os.path.abspath(root), False
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        shown = f"{where} ({line.strip()[:60]})"
        is_first, first = first, False
        if is_first and is_header(line, root):
            if misplaced(line):
                problems.add(_NO_COLUMNS, shown)
                return []
            indexed = is_unnamed(line)
            if not is_known_header(line):
                problems.note("first line, taken for a header", shown)
            continue
        name, fields = split_line(without_index(line) if indexed else line)
        if not 1 <= len(fields) <= 2:
            problems.add(_NO_ROW, shown)
            continue
        label, coarse = whole_number(fields[0]), whole_number(fields[-1])
        if label is None or coarse is None:
            kind = _TOO_LARGE if all(is_integer(field) for field in fields) else _NO_NUMBER
            problems.add(kind, f"{where} ({', '.join(fields)})")
            continue
        name = name.removeprefix(f"{here}/")
        if os.path.isabs(name) or name.split("/")[0] == "..":
            problems.add(_OUTSIDE, f"{name} ({where})")
            continue
        file = disk.find(name)
        before, label_before = seen.setdefault(file or name, (number, label))
        if before != number:
            labels = f", with labels {label_before} and {label}" if label != label_before else ""
            problems.add("image listed twice", f"{name} ({path.name} lines {before} and {number}{labels})")
            continue
        if file is None:
            near = disk.find(name, caseless=True)
            hint = f"; there is {near}" if near else ""
            hint += ", of other characters" if near and near.casefold() != name.casefold() else ""
            problems.add("file that does not exist", f"{name} ({where}{hint})")
            continue
        rows.append(Row(name, label, coarse if len(fields) == 2 else None, where, file))
    return rows


def _class_table(path: Path, problems: Problems) -> list[tuple[str, int | None, str]]:
    """(name, coarse label, coarse name) of each class, in order of label; empty if there is no table."""
    if not path.is_file():
        for other in _UNREAD_NAMES:
            if (path.parent / other).is_file():
                problems.note("file that is not read, since names of classes come from classes.csv", other)
        return []
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    between = max(",;\t", key=first.count)  # a comma where there is none of them
    try:
        reader = csv.reader(io.StringIO(text), delimiter=between)
        rows = [row for row in reader if any(field.strip() for field in row)]
    except csv.Error as error:
        raise UserError(f"{path}: {error}") from error
    columns = {"name": 0, "label": 1, "coarse name": 2, "coarse label": 3}
    if rows and all(whole_number(field) is None for field in rows[0]):
        columns = _columns(rows.pop(0)) or columns
    elif rows and whole_number(rows[0][0]) is not None:
        columns |= {"name": 1, "label": 0}
    table: dict[int, tuple[str, int | None, str]] = {}
    for row in rows:
        name, label, coarse_name, coarse = (
            row[columns[c]].strip() if columns.get(c, len(row)) < len(row) else ""
            for c in ("name", "label", "coarse name", "coarse label")
        )
        number = whole_number(label)
        if number is None or not name:
            shown = " ".join(",".join(row).split())[:60]
            problems.add("line without a name and a whole number", f"{path.name} ({shown})")
        elif number in table:
            problems.add("label given twice", f"{path.name}: {number} is {table[number][0]} and {name}")
        else:
            table[number] = (name, whole_number(coarse), coarse_name)
    if sorted(table) != list(range(len(table))):
        absent = next(i for i in range(len(table) + 1) if i not in table)
        problems.add(_UNNAMED, f"{path.name} has no {absent}; labels count from 0 without gaps")
    return [table[label] for label in sorted(table)]


def _note_equal_names(names: tuple[str, ...], problems: Problems) -> None:
    by_name: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        by_name.setdefault(unicodedata.normalize("NFC", name), []).append(str(number))
    for name, numbers in by_name.items():
        if len(numbers) > 1:
            problems.add("class name given twice", f"{name} (classes.csv, labels {' and '.join(numbers)})")
    note_alike(tuple(by_name), problems.note)


def _columns(header: list[str]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for i, title in enumerate(header):
        words = title.lower().replace("_", " ").replace("(", " ").replace(")", " ").split()
        coarse = "coarse " if {"coarse", "family", "super", "parent"} & set(words) else ""
        if {"id", "label", "index"} & set(words):
            columns.setdefault(f"{coarse}label", i)
        elif {"name", "class", "family"} & set(words):
            columns.setdefault(f"{coarse}name", i)
    return columns if {"name", "label"} <= set(columns) else {}


def _families(
    lists: dict[str, Rows], table: list[tuple[str, int | None, str]], num_classes: int, problems: Problems
) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    coarse: dict[int, tuple[int, str]] = {
        label: (kin, "classes.csv") for label, (_, kin, _) in enumerate(table) if kin is not None
    }
    for rows in lists.values():
        for _, label, kin, where, _ in rows:
            if kin is not None and coarse.setdefault(label, (kin, where))[0] != kin:
                first, place = coarse[label]
                problems.add(
                    "class with two coarse labels", f"{label} has {first} ({place}), {kin} ({where})"
                )
    without = [str(label) for label in range(num_classes) if label not in coarse]
    if coarse and num_classes:
        for lacking in without:
            problems.add("class without a coarse label, which others have", lacking)
    if without or not coarse:
        return None, None
    kin_of = np.array([coarse[label][0] for label in range(num_classes)])
    order, families = np.unique(kin_of, return_inverse=True)
    titles = {kin: title for _, kin, title in table if kin is not None and title}
    return tuple(families.tolist()), tuple(titles.get(kin, str(kin)) for kin in order.tolist())
