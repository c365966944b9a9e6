"""A cost matrix from a CSV file whose first row and column name the classes."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import os
import unicodedata
from collections import Counter

import numpy as np

from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.system.files import path_of


def read_costs(file: str | os.PathLike, classes: Classes) -> np.ndarray:
    """Cost matrix of a file, its rows and columns in the order of the classes.

    The first row holds a cell that is ignored, then the names of the classes that an image may be called;
    each further row the name of the true class, then the cost of calling an image of it each of them. The
    classes may be in any order. The diagonal is ignored.

    Args:
      file: comma-separated values, UTF-8.
      classes: those of the data set.

    Returns:
      (C, C) float64; [i, j] is the cost of calling an image of class i class j.

    Raises:
      UserError: it cannot be read, a class is missing, unknown or given twice, or a cell is not a number.
    """
    path = path_of(file)
    try:
        text = path.read_text(encoding="utf-8-sig")
        # Not its lines: the name of a class may have several.
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"confusion.source: {os.fspath(file)} cannot be read ({reason})") from error
    if not rows:
        raise UserError(f"confusion.source: {os.fspath(file)} is empty")
    # A file may write é as one letter or as two, whatever the class folders do.
    classes = dataclasses.replace(classes, names=tuple(map(_composed, classes.names)))
    columns, lines = [_composed(name) for name in rows[0][1:]], [_composed(row[0]) for row in rows[1:]]
    for names, where in ((columns, "first row"), (lines, "first column")):
        _check_names(names, classes, f"confusion.source: {os.fspath(file)}, {where}")
    costs = np.empty((classes.number, classes.number))
    place = {name: index for index, name in enumerate(classes.names)}
    for name, row in zip(lines, rows[1:]):
        if len(row) != len(rows[0]):
            raise UserError(
                f"confusion.source: {os.fspath(file)}: the row of {name} has {len(row) - 1} costs, "
                f"not {len(columns)}"
            )
        for column, cell in zip(columns, row[1:]):
            costs[place[name], place[column]] = _number(cell, f"{os.fspath(file)}: {name}, {column}")
    return costs


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def _check_names(names: list[str], classes: Classes, where: str) -> None:
    known = set(classes.names)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, classes.names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{where}: {name!r} is not a class of the data set{hint}")
    twice = [name for name, number in Counter(names).items() if number > 1]
    missing = [name for name in classes.names if name not in set(names)]
    for found, what in ((twice, "stands there twice"), (missing, "is missing")):
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise UserError(f"{where}: {found[0]!r}{more} {what}; name every class once")


def _number(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise UserError(f"confusion.source: {where}: {cell!r} is not a number") from None
