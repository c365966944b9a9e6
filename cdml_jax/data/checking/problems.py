"""What is found about a data set, collected so that it is said once: in a message, in lines, or in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cdml_jax.data.images.kinds import ADVICE
from cdml_jax.errors import UserError
from cdml_jax.system import console, files

_NAMED = 10  # how many files one message names, over all kinds of problems
_WIDTH = 200  # characters of a place where some are named
_ON_A_LINE = 3  # how many places stand on one line where all are named
_LEFT_OUT = "left out"
_COLUMNS = "verdict\tkind\tplace"


class Problems:
    """Problems, for which a data set is refused, and notes on what is used as it is or left out.

    Args:
      where: the data set as its user called it.
      whole: whether messages name every place, not some.

    >>> problems = Problems("folder:birds")
    >>> problems.add("image that cannot be read", "crow/1.jpg (zero bytes)")
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: folder:birds cannot be used: 1 problem; correct or remove
      image that cannot be read: crow/1.jpg (zero bytes)
    """

    def __init__(self, where: str, *, whole: bool = False):
        self.where, self._whole = where, whole
        self._found: dict[str, list[str]] = {}
        self._notes: dict[str, list[str]] = {}
        self._advice: dict[str, str] = {}
        self._reasons: dict[tuple[str, str], str] = {}
        self._left_out: dict[str, list[str]] = {}
        self._said: set[str] = set()

    def add(self, kind: str, example: str) -> None:
        """Notes one problem: its kind, in the singular, and the file, line or class that has it."""
        reason = self._reasons.get((kind, example), "")
        self._found.setdefault(kind, []).append(f"{example} ({reason})" if reason else example)

    def explain(self, kind: str, example: str, reason: str) -> None:
        """The reason to give with this very problem, if it is found later."""
        self._reasons[kind, example] = reason

    def note(self, kind: str, example: str) -> None:
        """Notes what is no reason to refuse the set: its kind, in the singular, and the place."""
        self._notes.setdefault(kind, []).append(example)

    def leave_out(self, ending: str, file: str) -> None:
        """Notes an image that is not taken, by the ending of its name or by `NO_ENDING`."""
        self._left_out.setdefault(ending, []).append(file)

    def advise(self, kind: str, advice: str) -> None:
        """What to say behind the problems of a kind, if there are any."""
        self._advice[kind] = advice

    def has(self, *kinds: str) -> bool:
        """Whether a problem of one of these kinds was found; without kinds, any problem."""
        return any(kind in self._found for kind in kinds) if kinds else bool(self._found)

    def is_clean(self) -> bool:
        """Whether there is nothing to say."""
        return not (self._found or self._notes or self._left_out)

    def images_left_out(self, folder: str = "") -> str:
        """How many images of which endings were left out, below a folder or in all; "" for none.

        >>> problems = Problems("folder:birds")
        >>> problems.leave_out(".heic", "crow/1.heic")
        >>> problems.images_left_out("crow"), problems.images_left_out("owl")
        ('1 .heic', '')
        """
        start = f"{folder}/" if folder else ""
        counts = [
            (sum(file.startswith(start) for file in found), ending)
            for ending, found in sorted(self._left_out.items())
        ]
        return ", ".join(f"{count:,} {ending}" for count, ending in counts if count)

    def raise_if_any(self) -> None:
        """Raises one UserError with every kind, how often it was found, and some of the places."""
        if not self._found:
            return
        total = sum(map(len, self._found.values()))
        plural = "s" if total > 1 else ""
        lines = [f"{self.where} cannot be used: {total:,} problem{plural}; correct or remove"]
        lines += [f"  {line}" for line in self.problems()]
        shown = max(2, _NAMED // len(self._found))
        if not self._whole and any(len(places) > shown for places in self._found.values()):
            lines.append(f"  all of them: cdml prepare {self.where}")
        raise UserError("\n".join(lines))

    def problems(self) -> Iterator[str]:
        """A line for each kind of problem, with its count and some of the places."""
        shown = max(2, _NAMED // max(1, len(self._found)))
        for kind, places in self._found.items():
            yield self._line(kind, places, shown, self._advice.get(kind, ""))

    def warn(self) -> None:
        """Prints a warning for each kind of note, and one for all images that are left out, each once."""
        for line in self.lines():
            if line not in self._said:
                console.warn(f"{self.where}: {line}")
                self._said.add(line)

    def lines(self) -> Iterator[str]:
        """What was noted and left out: a line for each kind, with its count and some of the places."""
        if self._left_out and not self._whole:
            first = console.escaped(next(iter(self._left_out.values()))[0])
            yield f"{_LEFT_OUT}: {self.images_left_out()} (such as {first}); {ADVICE}"
        elif self._left_out:
            for ending, found in sorted(self._left_out.items()):
                yield self._line(f"{_LEFT_OUT}, {ending}", found, 2, ADVICE)
        for kind, places in self._notes.items():
            yield self._line(kind, places, 2)

    def _line(self, kind: str, places: list[str], shown: int, advice: str = "") -> str:
        count, advice = f" ({len(places):,})" if len(places) > 1 else "", f" ({advice})" if advice else ""
        places = [console.escaped(place) for place in places]
        if self._whole and len(places) > _ON_A_LINE:
            return "\n    ".join([f"{kind}{count}{advice}:", *places])
        if self._whole:
            return f"{kind}{count}: {', '.join(places)}{advice}"
        more = f" and {len(places) - shown:,} more" if len(places) > shown else ""
        named = ", ".join(_shortened(place) for place in places[:shown])
        return f"{kind}{count}: {named}{more}{advice}"

    def write(self, path: str | os.PathLike) -> int:
        """Writes all of it, a line each: "problem", "note" or "left out", the kind, and the place, with tabs.

        Args:
          path: the file; it is written also if nothing was found.

        Returns:
          How many lines there are below the first, which names the columns.

        Raises:
          UserError: it cannot be written.
        """
        rows = [
            *(("problem", kind, place) for kind, places in self._found.items() for place in places),
            *((_LEFT_OUT, ending, file) for ending, found in self._left_out.items() for file in found),
            *(("note", kind, place) for kind, places in self._notes.items() for place in places),
        ]
        lines = [_COLUMNS, *("\t".join(map(console.escaped, row)) for row in rows)]
        files.write_text(path, "\n".join(lines) + "\n")
        return len(rows)


def check_report(path: str | os.PathLike) -> None:
    """Refuses a file for `Problems.write` before anything is read.

    Args:
      path: the file.

    Raises:
      UserError: its folder is not there, or it is something else than such a report, which would be lost.
    """
    file = files.absolute(path)
    if not files.has_room_for_files(file.parent):
        raise UserError(f"--report: there is no folder {file.parent}")
    if file.is_dir():
        raise UserError(f"--report: {path} is a folder; give a file")
    with files.writing(path):
        other = file.exists() and not file.read_bytes().startswith(_COLUMNS.encode())
    if other:
        raise UserError(f"--report: {path} is there and no such report; choose another name")


def _shortened(place: str) -> str:
    return place if len(place) <= _WIDTH else f"{place[: _WIDTH - 2]} …"
