"""All that a person reads while a command runs: lines, warnings, and progress that never falls silent.

Results and messages go to standard output, warnings and progress to standard error. On a terminal progress is
a bar; elsewhere it is a line now and then with what is done, how fast, and how long is left.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_FIRST_LINE_SECONDS = 5.0  # what ends sooner needs no line
_LINE_SECONDS = 30.0


class Verbosity(enum.IntEnum):
    """How much a command prints: results and warnings; messages and progress too; memory and mesh as well."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


# What moves a terminal's cursor, sets its title or turns lines around: control characters, separators of
# lines, overrides of the direction of writing.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_IN_TEXT = re.compile(r"(?![\t\n])" + _CONTROLS.pattern)

# Of this process, as its streams are.
_verbosity = Verbosity.NORMAL


def set_verbosity(verbosity: Verbosity) -> None:
    """Set how much this process prints from here on."""
    global _verbosity
    _verbosity = verbosity


@contextlib.contextmanager
def verbosity(wanted: Verbosity | None) -> Iterator[None]:
    """Prints so much inside; None changes nothing."""
    before = _verbosity
    if wanted is not None:
        set_verbosity(wanted)
    try:
        yield
    finally:
        set_verbosity(before)


def speaks() -> bool:
    """Whether this process prints: the first of a run's processes does."""
    jax = sys.modules.get("jax")
    # Before JAX is loaded, and before the processes have joined, there is one.
    return jax is None or not jax.distributed.is_initialized() or jax.process_index() == 0


def escaped(name: str) -> str:
    r"""A name from elsewhere as part of a line: what would act on a terminal or end the line is escaped.

    >>> print(escaped("crow\n\x1b[2J é 鴉"))
    crow\n\x1b[2J é 鴉
    """
    return _CONTROLS.sub(_escape, name)


def harmless(text: str) -> str:
    """Text of several lines that does nothing on a terminal but stand there."""
    return _CONTROLS_IN_TEXT.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def result(text: str = "") -> None:
    """Print what the command was asked for, at every verbosity."""
    if speaks():
        print(harmless(text), flush=True)


def say(text: str) -> None:
    """Print a message about how things stand, unless quiet."""
    if _verbosity >= Verbosity.NORMAL:
        result(text)


def hint(text: str) -> None:
    """Print what may be done next on standard error: the output may be another program's input."""
    if _verbosity >= Verbosity.NORMAL and speaks():
        print(harmless(text), file=sys.stderr, flush=True)


def detail(text: str) -> None:
    """Print what few people ask for, such as bytes on each device, if verbose."""
    if _verbosity >= Verbosity.VERBOSE:
        result(text)


def warn(text: str) -> None:
    """Print a line on standard error, with the program's name in front."""
    if speaks():
        print(f"cdml: {harmless(text)}", file=sys.stderr, flush=True)


def at_once(text: str) -> None:
    """Print a line on standard error from a signal's handler, in whatever print that has interrupted."""
    try:
        # Past the stream, whose buffer may be in use; on a terminal, behind a bar.
        line = f"cdml: {text}\n"
        os.write(sys.stderr.fileno(), f"\n{line}".encode() if sys.stderr.isatty() else line.encode())
    except (OSError, ValueError, AttributeError):  # a terminal that is gone, a stream without a file
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            print(f"cdml: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A length of time as a person says it.

    >>> duration(8.2), duration(95), duration(7265)
    ('8 s', '1 min 35 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """How far something is; `advance` it, inside `progress`."""

    def __init__(self, what: str, total: int, unit: str, initial: int, shown: bool = True) -> None:
        self.what, self.total, self.unit, self.done = escaped(what), total, unit, initial
        self._initial, self._began, self._notes = initial, time.monotonic(), ""
        self._rated = (initial, self._began)  # from where on speed is measured: not while things compile
        self._next = self._began + _FIRST_LINE_SECONDS
        self._shown = shown and speaks() and _verbosity >= Verbosity.NORMAL
        self._bar: Any = None
        if self._shown and sys.stderr.isatty() and shutil.get_terminal_size((0, 0)).columns > 0:
            from tqdm import tqdm  # here: most commands end before they need one

            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=self.what,
                unit=f" {unit}",
                unit_scale=True,
                leave=False,
                dynamic_ncols=True,
            )

    def advance(self, number: int = 1) -> None:
        """So many more are done."""
        self.done += number
        if self._rated[0] == self._initial:
            self._rated = (self.done, time.monotonic())
        if self._bar is not None:
            self._bar.update(number)
        elif self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            print(self.line(), file=sys.stderr, flush=True)

    def note(self, **figures: str) -> None:
        """Figures that stand behind the bar from here on."""
        notes = "".join(f", {name.replace('_', ' ')} {value}" for name, value in figures.items())
        self._notes = escaped(notes)
        if self._bar is not None:
            self._bar.set_postfix(figures)

    def milestone(self, reached: str) -> None:
        """A line that says what was reached, how long is left, and the figures; a bar shows them already."""
        if self._shown and self._bar is None:
            left = self._left()
            print(f"{self.what}: {escaped(reached)}{left}{self._notes}", file=sys.stderr, flush=True)
            self._next = time.monotonic() + _LINE_SECONDS

    def line(self) -> str:
        """What is done, how fast, how long is left."""
        rate = self._rate()
        speed = f", {rate:,.0f} a second" if rate >= 1 else f", {60 * rate:.1f} a minute" if rate else ""
        return f"{self.what}: {self.done:,} of {self.total:,} {self.unit}{speed}{self._left()}{self._notes}"

    def _rate(self) -> float:
        """A second, since the first step, which compiles; 0 where there is only that one."""
        done, began = self._rated
        return (self.done - done) / max(time.monotonic() - began, 1e-9)

    def _left(self) -> str:
        rate = self._rate()
        return f", {duration(max(self.total - self.done, 0) / rate)} left" if rate > 0 else ""

    def say(self, text: str) -> None:
        """A message that does not break the bar."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.write(harmless(text), file=sys.stderr)
        else:
            print(harmless(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A warning that does not break the bar."""
        if self._bar is not None:
            self._bar.write(f"cdml: {harmless(text)}", file=sys.stderr)
        else:
            warn(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


@contextlib.contextmanager
def progress(
    what: str, total: int, *, unit: str = "images", initial: int = 0, shown: bool = True
) -> Iterator[Progress]:
    """Shows how far something is until the end of the block.

    Args:
      what: what is done, such as "Checking images".
      total: how many there are.
      unit: of what.
      initial: how many were done before.
      shown: False shows warnings alone, where results are printed as they come.
    """
    how_far = Progress(what, total, unit, initial, shown)
    try:
        yield how_far
    finally:
        how_far.close()


def progressing(items: Iterable[T], what: str, total: int, *, unit: str = "images") -> Iterator[T]:
    """The items, with progress shown as they are taken."""
    with progress(what, total, unit=unit) as shown:
        for item in items:
            yield item
            shown.advance()


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Says every now and then that something of unknown length goes on: compiling, clustering, drawing.

    Nothing is printed for what ends within a few seconds.
    """
    if not speaks() or _verbosity < Verbosity.NORMAL:
        yield
        return
    ended, began = threading.Event(), time.monotonic()

    def remind() -> None:
        wait = _FIRST_LINE_SECONDS
        while not ended.wait(wait):
            shown = f"{escaped(what)}: {duration(time.monotonic() - began)} so far"
            print(shown, file=sys.stderr, flush=True)
            wait = _LINE_SECONDS

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
