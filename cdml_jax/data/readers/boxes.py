"""Where the object is in each image, as a table of comma-separated values: `cdml localize` writes it.

Columns: image, left, top, right, bottom, width, height, found. The first is the image's name in its data set;
boxes are in pixels of the upright image of that width and height, right and bottom excluded, and found is 0
where nothing was: the box is then the whole image.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from typing import NamedTuple

from cdml_jax.errors import UserError
from cdml_jax.system.files import path_of, write_text

COLUMNS = ("image", "left", "top", "right", "bottom", "width", "height", "found")


class Box(NamedTuple):
    """A box of an image.

    Attributes:
      left, top, right, bottom: in shares of the image's width and height.
      width, height: of the image that it was found in, in pixels.
      found: whether there is an object; if not, the box is the whole image.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int
    found: bool = True

    @property
    def pixels(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in pixels of the image that it was found in."""
        sides = (self.width, self.height, self.width, self.height)
        left, top, right, bottom = (share * side for share, side in zip(self[:4], sides))
        return left, top, right, bottom


def write_boxes(path: os.PathLike | str, boxes: Iterable[tuple[str, Box]]) -> None:
    """Write boxes by the names of their images, whole or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, box in boxes:
        pixels = [f"{value:.2f}".rstrip("0").rstrip(".") for value in box.pixels]
        writer.writerow([name, *pixels, box.width, box.height, int(box.found)])
    write_text(path, table.getvalue())


def read_boxes(path: os.PathLike | str) -> dict[str, Box]:
    """Boxes by the names of their images.

    Raises:
      UserError: there is no such file, or a line of it is not a box; the line is named.
    """
    try:
        text = path_of(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"data.boxes: {os.fspath(path)} cannot be opened ({error.strerror or error})"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"data.boxes: {os.fspath(path)} is not UTF-8 text (byte {error.start})") from None
    found: dict[str, Box] = {}
    lines = csv.reader(io.StringIO(text))
    try:
        for row in lines:
            where = f"data.boxes: {os.fspath(path)} line {lines.line_num}"
            if lines.line_num == 1:
                if tuple(row) != COLUMNS:
                    raise UserError(
                        f"{where}: the columns are not {', '.join(COLUMNS)}; cdml localize writes them"
                    )
            elif row:
                name, box = _box(row, where)
                if name in found:
                    raise UserError(f"{where}: {name} has two boxes")
                found[name] = box
    except csv.Error as error:
        raise UserError(f"data.boxes: {os.fspath(path)} line {lines.line_num}: {error}") from error
    if not found:
        raise UserError(f"data.boxes: {os.fspath(path)} holds no box")
    return found


def _box(row: list[str], where: str) -> tuple[str, Box]:
    try:
        name, *numbers = row
        left, top, right, bottom, width, height, there = map(float, numbers)
    except ValueError:
        raise UserError(f"{where}: not a name and seven numbers ({','.join(row)[:60]})") from None
    inside = 0 <= left < right <= width and 0 <= top < bottom <= height
    if not inside or width % 1 or height % 1 or there not in (0, 1):
        raise UserError(
            f"{where}: a box is 0 <= left < right <= width, 0 <= top < bottom <= height, found 0 or 1"
        )
    shares = (left / width, top / height, right / width, bottom / height)
    return name, Box(*shares, int(width), int(height), bool(there))
