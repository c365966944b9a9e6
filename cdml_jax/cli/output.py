"""Standard output and error: any name can be printed on them, and their failures are errors of their own."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

from cdml_jax.system import console

CLOSED_PIPE = 141  # 128 + SIGPIPE, as a shell reports a program that the signal ends


class OutputError(Exception):
    """A standard stream cannot be written.

    Attributes:
      closed_pipe: nobody reads it any more, which is no mistake: `cdml … | head`.
    """

    def __init__(self, stream: str, error: OSError):
        super().__init__(f"{stream} cannot be written ({error.strerror or error})")
        self.closed_pipe = isinstance(error, BrokenPipeError)


class _Stream:
    """A stream whose failures are `OutputError`; all else is the stream's own."""

    def __init__(self, stream: Any, name: str):
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._failing():
            return self._stream.write(text)
        return len(text)  # to a terminal that is gone

    def flush(self) -> None:
        with self._failing():
            self._stream.flush()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # A run goes on without its terminal: SIGHUP makes it save, or is ignored on purpose.
            lost_terminal = error.errno == errno.EIO and self._is_device()
            self._give_up()
            if lost_terminal:
                return
            raise OutputError(self._name, error) from error

    def _is_device(self) -> bool:
        try:
            return stat.S_ISCHR(os.fstat(self._stream.fileno()).st_mode)
        except (OSError, ValueError):
            return False

    def _give_up(self) -> None:
        # What is still buffered would fail again when Python ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def careful_output() -> Iterator[None]:
    """Inside it, characters that a stream lacks are printed as escapes, and its failures are `OutputError`.

    Raises:
      OutputError: a stream cannot be written, also if that turns out at the end.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    output: Any = _Stream(sys.stdout, "standard output")
    errors: Any = _Stream(sys.stderr, "standard error")
    sys.stdout, sys.stderr = output, errors
    try:
        yield
        output.flush()
    finally:
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Give standard streams that were closed (`>&-`) a place that leads nowhere.

    Else the next file that is opened, such as a checkpoint's, gets their number, and what is printed there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115


def takes_unicode() -> bool:
    """Whether every character can be printed on standard output as it is."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def as_json(value: dict[str, Any]) -> str:
    """An object as one line of JSON that any stream can take and that does nothing to a terminal."""
    # Neither the stream's escapes, where it lacks a character, nor the console's are JSON's.
    text = json.dumps(value, ensure_ascii=not takes_unicode())
    return "".join(
        letter if letter == console.escaped(letter) else f"\\u{ord(letter):04x}" for letter in text
    )
