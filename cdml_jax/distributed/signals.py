"""How a run is asked to end early: by a signal, which lets the step end and the run be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Any

from cdml_jax.system import console

_SAID = "stopping after this step and saving; once more to stop at once"
_LISTENED = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(Exception):  # noqa: N818 - like KeyboardInterrupt
    """A signal asked the run to end; what it had reached is saved where it has a folder."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(signal_number, step)
        self.signal_number, self.step = signal_number, step


class Stop:
    """Whether a signal has asked to end: SIGINT (Ctrl-C), SIGTERM (preemption), SIGHUP (a lost terminal)."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Notes the first signal, says so at once and lets the step end; a second one ends at once.

        A second SIGHUP does not: whoever closes a terminal sends one through its shell and one through the
        system. Where SIGHUP is ignored, as under nohup, it stays so.
        """

        def note(number: int, _frame: Any) -> None:
            hung_up = number not in (signal.SIGINT, signal.SIGTERM)
            if self.signal_number is None:
                self.signal_number = number
                console.at_once(_SAID)
            elif not hung_up:
                raise KeyboardInterrupt
            if hung_up:
                _leave_terminal()

        listened = [
            number
            for number in _LISTENED
            if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN
        ]
        before = {number: signal.signal(number, note) for number in listened}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave_terminal() -> None:
    """What is printed from here on goes nowhere where a terminal was: writing to one that is gone fails."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            number = stream.fileno()
            # One that is gone does not call itself a terminal any more, but is a character device still.
            if stat.S_ISCHR(os.fstat(number).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
