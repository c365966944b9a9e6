"""Files under a digest, arrays with a record or JSON: what is read is known to be what was written."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from cdml_jax.system.files import write_bytes

_RECORD = "record"
_DIGITS = 64
_LENGTH = _DIGITS.to_bytes(2, "little")


class DamagedError(Exception):
    """The file is not what was written: cut short, or some of its bits have changed."""


def write_archive(
    path: os.PathLike | str, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write arrays and a record as one compressed `.npz`, whole or not at all.

    The record is a member of its own, JSON in UTF-8 as bytes. The archive's comment, by which a zip file
    ends, is the SHA-256 of all that precedes it. The same contents give the same bytes.

    Args:
      path: the file.
      record: what JSON can hold.
      arrays: by names other than "record".

    Raises:
      UserError: it cannot be written.
      ValueError: the record holds NaN or infinity, or an array is called "record".
    """
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if _RECORD in arrays:
        raise ValueError(f"an array cannot be called {_RECORD!r}")
    buffer = io.BytesIO()
    members: dict[str, Any] = {**arrays, _RECORD: np.frombuffer(text.encode(), np.uint8)}
    np.savez_compressed(buffer, **members)
    # The last field of a zip file is the length of its comment, two bytes: none so far.
    content = buffer.getvalue()[:-2]
    write_bytes(path, content + _LENGTH + hashlib.sha256(content).hexdigest().encode())


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the SHA-256 of its content as "digest", for a JSON file.

    >>> intact(sealed({"a": 1})), intact(sealed({"a": 1}) | {"a": 2})
    (True, False)
    """
    return {**record, "digest": _digest(record)}


def intact(record: Any) -> bool:
    """Whether a record is as `sealed` gave it: neither edited, nor damaged, nor without a digest."""
    if not isinstance(record, Mapping):  # whatever else JSON may hold
        return False
    content = {key: value for key, value in record.items() if key != "digest"}
    return "digest" in record and record["digest"] == _digest(content)


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


class Archive:
    """What `write_archive` wrote; an array is decompressed when it is asked for.

    Args:
      path: the file.

    Attributes:
      record: as it was written.

    Raises:
      DamagedError: the digest is not that of the content.
      OSError: the file cannot be read.
    """

    def __init__(self, path: os.PathLike | str):
        content = epath.Path(path).read_bytes()
        body, length, digest = content[: -_DIGITS - 2], content[-_DIGITS - 2 : -_DIGITS], content[-_DIGITS:]
        if length != _LENGTH or digest != hashlib.sha256(body).hexdigest().encode():
            raise DamagedError("its digest is not that of its content")
        self._members = np.load(io.BytesIO(content), allow_pickle=False)
        self.record: dict[str, Any] = json.loads(self._members[_RECORD].tobytes())

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return [name for name in self._members.files if name != _RECORD]

    def __contains__(self, name: str) -> bool:
        return name in self._members.files

    def __getitem__(self, name: str) -> np.ndarray:
        return self._members[name]
