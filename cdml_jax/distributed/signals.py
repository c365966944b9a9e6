"""How a run is asked to end early: by a signal, which lets the step end and the run be saved."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Interrupted(Exception):  # noqa: N818 - like KeyboardInterrupt
    """A signal asked the run to end; what it had reached is saved where it has a folder."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(signal_number, step)
        self.signal_number, self.step = signal_number, step


class Stop:
    """Whether a signal has asked to end: SIGINT (Ctrl-C) or SIGTERM (preemption)."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Notes the first signal and lets the step end; a second Ctrl-C ends at once."""

        def note(number: int, _frame: Any) -> None:
            if self.signal_number is not None:
                raise KeyboardInterrupt
            self.signal_number = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
