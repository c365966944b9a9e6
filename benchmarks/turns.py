"""Sides that are processes of their own, each with its own settings, and are timed in turn.

The side says one line of JSON when it is ready; then for every line that holds a number it takes so many
steps and answers with the seconds until the last one's results were there, on the clock and of processor
time. It ends with its input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple


class SkippedError(RuntimeError):
    """A side that cannot be measured here, and why."""


def serve(begin: Callable[[], tuple[Callable[[int], object], dict]]) -> None:
    """The side's end: `begin` gives what takes so many steps and waits, and what to say of it first.

    What libraries print goes to the standard error, so that the answers are alone on the standard output.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        run, facts = begin()
    except Exception as error:  # whatever it is, the other sides are measured without this one
        if isinstance(error, ModuleNotFoundError):
            reason = f"{error.name} is not installed"
        else:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        answers.write(json.dumps({"skipped": reason}) + "\n")
        return
    answers.write(json.dumps(facts) + "\n")
    for line in sys.stdin:
        began, processor = time.perf_counter(), time.process_time()
        run(int(line))
        answers.write(json.dumps([time.perf_counter() - began, time.process_time() - processor]) + "\n")


class Seconds(NamedTuple):
    """On the clock, and of processor time over all cores, which neighbours on the machine disturb less."""

    whole: float
    processor: float


class Side:
    """The other end: a process that serves, ready and warm. A context; leaving it ends the process.

    Attributes:
      facts: what it said of itself.
    """

    def __init__(self, command: list[str], environment: dict[str, str]):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        try:
            self.facts = json.loads(self._answer())
            if "skipped" in self.facts:
                raise SkippedError(self.facts["skipped"])
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its input, which ends it

    def seconds(self, steps: int) -> Seconds:
        """A step's, of so many."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        whole, processor = json.loads(self._answer())
        return Seconds(whole / steps, processor / steps)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SkippedError(f"its process ended with status {self._process.wait()}")
        return line


def in_turn(first: Side, second: Side, *, repeats: int, turn: float) -> tuple[list[Seconds], list[Seconds]]:
    """Seconds a step of two sides, in turns of about `turn` seconds after a step that is not timed."""
    sides = (first, second)
    steps = [max(1, round(turn / side.seconds(1).whole)) for side in sides]
    seconds: tuple[list[Seconds], list[Seconds]] = ([], [])
    for _ in range(repeats):
        for side, number, taken in zip(sides, steps, seconds):
            side.seconds(1)
            taken.append(side.seconds(number))
    return seconds
