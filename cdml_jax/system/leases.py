"""A lock in a bucket: an object that its holder writes again and again, as a sign of life.

An object that is made only where there is none, and replaced only where it is still the one that was seen,
keeps two runs apart without any clock of theirs. What it cannot do is to end with its holder: one that was
killed leaves its object, and the next waits until no sign of life came for a while. A holder whose network
was away for so long may find that another has taken its place, and says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

from cdml_jax.errors import UserError
from cdml_jax.system import buckets, console

SIGN_SECONDS = 10.0  # between signs of life
SILENT_SECONDS = 45.0  # without one, the holder is taken for gone


@contextlib.contextmanager
def leased(path: os.PathLike | str, busy: str | None) -> Iterator[None]:
    """Keeps every other process that asks for the same object out until the end.

    Args:
      path: the object; removed at the end.
      busy: the message if another process holds it; None waits for that process.

    Raises:
      UserError: another process holds it, or the bucket cannot be written.
    """
    bucket, _ = buckets.parts_of(path)
    buckets.refuse_without_rights(bucket)
    lease = buckets.with_client(bucket, lambda client: _Lease.taken(client, path, busy))
    ended = threading.Event()
    signs = threading.Thread(target=lease.give_signs, args=(ended,), daemon=True)
    signs.start()
    try:
        yield
    finally:
        ended.set()
        signs.join()
        lease.end()


class _Lease:
    """One process's claim to an object.

    Args:
      client: of Google's storage, which only one thread may use at a time.
      path: the object.
    """

    def __init__(self, client: Any, path: os.PathLike | str):
        from google.api_core import exceptions

        bucket, name = buckets.parts_of(path)
        self._path, self._bucket, self._name = os.fspath(path), client.bucket(bucket), name
        self._not_so, self._gone = exceptions.PreconditionFailed, exceptions.NotFound
        self._owner = {
            "host": platform.node(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "token": secrets.token_hex(8),
        }
        self._generation = 0

    @classmethod
    def taken(cls, client: Any, path: os.PathLike | str, busy: str | None) -> _Lease:
        """A lease that this process has become the holder of.

        Raises:
          UserError: another gives signs of life, and `busy` says what to do then.
        """
        lease = cls(client, path)
        lease._take(busy)
        return lease

    def _take(self, busy: str | None) -> None:
        while not self._written_over(0):
            seen = self._seen()
            if seen is None:
                continue  # it has just ended
            generation, owner = seen
            console.say(
                f"{self._path} is held by {_named(owner)}: waiting up to {SILENT_SECONDS:.0f} s for a sign "
                "of life"
            )
            if not self._is_silent(generation):
                if busy is not None:
                    raise UserError(f"{busy} ({_named(owner)} holds it)")
            elif self._written_over(generation):
                console.warn(f"{self._path}: {_named(owner)} gave no sign of life: this run takes its place")
                return

    def _is_silent(self, generation: int) -> bool:
        """Whether the object stays as it is for so long that its holder must be gone."""
        until = time.monotonic() + SILENT_SECONDS
        while time.monotonic() < until:
            time.sleep(SIGN_SECONDS / 5)
            seen = self._seen()
            if seen is None or seen[0] != generation:
                return False
        return True

    def _written_over(self, generation: int, **how: Any) -> bool:
        """Write the object if it still is the one of that generation, 0 for none."""
        blob = self._bucket.blob(self._name)
        try:
            blob.upload_from_string(json.dumps(self._owner), if_generation_match=generation, **how)
            self._generation = blob.generation
        except self._not_so:
            # The answer to a write that was done may have been lost, and the write been tried again.
            seen = self._seen()
            if seen is None or seen[1].get("token") != self._owner["token"]:
                return False
            self._generation = seen[0]
        return True

    def _seen(self) -> tuple[int, dict[str, Any]] | None:
        """The generation of the object and who wrote it; None where there is none."""
        blob = self._bucket.blob(self._name)
        try:
            content = blob.download_as_bytes()
        except self._gone:
            return None
        try:
            owner = json.loads(content)
        except ValueError:
            owner = None
        return blob.generation, owner if isinstance(owner, dict) else {}

    def give_signs(self, ended: threading.Event) -> None:
        """Write the object again and again, until `ended`, or until another has taken it."""
        while not ended.wait(SIGN_SECONDS):
            try:
                # Once: the next sign is the second try, and the run's end does not wait for a lost network.
                if self._written_over(self._generation, retry=None, timeout=SIGN_SECONDS):
                    continue
                seen = self._seen()
            except Exception:  # the network is away: the next sign may come through
                continue
            by = _named(seen[1]) if seen else "nobody"
            console.warn(
                f"{self._path} is no longer this run's, but held by {by}: end one of the two, or their "
                "checkpoints will be mixed"
            )
            return

    def end(self) -> None:
        """Remove the object if it is still this one's; one that stays is taken for silent by the next."""
        with contextlib.suppress(Exception):
            self._bucket.blob(self._name).delete(if_generation_match=self._generation)


def _named(owner: dict[str, Any]) -> str:
    if "host" not in owner:
        return "another process"
    return f"process {owner.get('process')} on {owner['host']}, since {owner.get('since')}"
