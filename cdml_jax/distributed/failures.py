"""One process of a run that fails ends the others, with its message: nobody waits for a peer that is gone.

The processes share a few keys in the store of JAX's coordinator, which is process 0. Who fails writes why.
Every process has a thread that looks for that key; process 0 also looks whether all still give signs of life,
for a killed process writes nothing. The thread ends its process from outside, since the main thread may
be inside a collective that never returns.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

from cdml_jax.distributed.signals import Interrupted
from cdml_jax.errors import UserError

_FAILED, _ALIVE, _HEARD, _SUSPECT = "cdml/failed/", "cdml/alive/", "cdml/heard/", "cdml/suspect/"
_LOOK_SECONDS = 1
_BEAT_SECONDS = 2
_SILENT_SECONDS = 30  # without a sign of life a process is gone
_SUSPECT_SECONDS = 8  # the same, once a collective has failed somewhere
_HEAR_SECONDS = 10  # how long the coordinator stays, so that the others hear why it ends


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Inside it, a process that fails ends all others with its message and its status.

    `Interrupted` is no failure: the processes agreed on it.
    """
    from jax._src.distributed import global_state  # JAX has no public way to its key-value store

    if (global_state.num_processes or 1) == 1:
        yield
        return
    peers = _Others(global_state.client, global_state.process_id, global_state.num_processes)
    try:
        yield
    except Interrupted:
        raise
    except BaseException as error:
        peers.fail(error)
        raise
    finally:
        peers.close()


def _status(error: BaseException) -> int:
    if isinstance(error, UserError):
        return 2
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _described(error: BaseException) -> str:
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


class _Others:
    def __init__(self, client: Any, index: int, count: int) -> None:
        self.client, self.index, self.count = client, index, count
        self.closed = threading.Event()
        self.threads = [
            threading.Thread(target=work, daemon=True) for work in (self._listen, self._show_life)
        ]
        for thread in self.threads:
            thread.start()

    def fail(self, error: BaseException) -> None:
        """Tell the others, unless this failure only follows from another process's."""
        if _of_a_collective(error):
            self._set(f"{_SUSPECT}{self.index}", "1")
            # What really happened comes from another process, and ends this one; or nobody knows better.
            time.sleep(_SUSPECT_SECONDS + 3 * _BEAT_SECONDS)
        self.closed.set()
        self._set(f"{_HEARD}{self.index}", "1")
        status = _status(error)
        self._end_all(f"{status} process {self.index} failed: {_described(error)}")
        if self.index == 0:
            end = time.monotonic() + _HEAR_SECONDS
            while len(self._all(_HEARD)) < self.count and time.monotonic() < end:
                time.sleep(0.1)
        # JAX's own way out waits for all processes. Registered last, this comes before it.
        atexit.register(_leave, status)

    def close(self) -> None:
        """No more signs of life are due."""
        self.closed.set()
        # A thread inside JAX's client when the interpreter ends would abort the process.
        for thread in self.threads:
            thread.join(_HEAR_SECONDS)
        self._set(f"{_ALIVE}{self.index}", "done")

    def _listen(self) -> None:
        while not self.closed.wait(_LOOK_SECONDS):
            try:
                why = [text for _, text in self.client.key_value_dir_get(_FAILED)]
            except jax.errors.JaxRuntimeError:
                why = ["1 process 0 is gone: it was killed, or cannot be reached"]
            if why and not self.closed.is_set():
                status, _, text = why[0].partition(" ")
                self._set(f"{_HEARD}{self.index}", "1")
                print(f"cdml: {text}", file=sys.stderr)
                _leave(int(status))

    def _show_life(self) -> None:
        beats = 0
        # None has shown itself yet: one that is gone before its first sign is silent too.
        seen = {f"{_ALIVE}{index}": ("", time.monotonic()) for index in range(self.count)}
        while not self.closed.wait(_BEAT_SECONDS):
            beats += 1
            self._set(f"{_ALIVE}{self.index}", str(beats))
            if self.index == 0:
                gone = self._silent(seen)
                if gone is not None:
                    self._end_all(f"1 process {gone} is gone: killed, or its machine lost (no sign of life)")

    def _silent(self, seen: dict[str, tuple[str, float]]) -> str | None:
        """A process whose signs of life have stopped; `seen` keeps each one's last sign and when it came."""
        now = time.monotonic()
        limit = _SUSPECT_SECONDS if self._all(_SUSPECT) else _SILENT_SECONDS
        signs = self._all(_ALIVE)
        for key, (last, since) in seen.items():
            sign = signs.get(key, "")
            if sign != last:
                seen[key] = sign, now
            elif sign != "done" and now - since > limit:
                return key.removeprefix(_ALIVE)
        return None

    def _end_all(self, why: str) -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # another was first
            self.client.key_value_set(f"{_FAILED}why", why)

    def _set(self, key: str, value: str) -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the coordinator is gone
            self.client.key_value_set(key, value, allow_overwrite=True)

    def _all(self, prefix: str) -> dict[str, str]:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            return dict(self.client.key_value_dir_get(prefix))
        return {}


def _of_a_collective(error: BaseException) -> bool:
    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
