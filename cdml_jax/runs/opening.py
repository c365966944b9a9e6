"""Why a checkpoint cannot be read: it is damaged, or cannot be opened here and now and is left alone."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

import jax
from etils.epath import Path

from cdml_jax.errors import UserError
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.files import entries, error_number

_HALF_WRITTEN = ".orbax-checkpoint-tmp"
# Where nothing can be renamed, in a bucket, Orbax writes it as the last object of a checkpoint.
_COMMITTED = "commit_success.txt"
_AGAIN = "then run the same command again"
_ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "make it readable"),
    **dict.fromkeys(
        (
            errno.EIO,
            errno.ESTALE,
            errno.ENOTCONN,
            errno.ETIMEDOUT,
            errno.EREMOTEIO,
            errno.ENODEV,
            errno.ENXIO,
        ),
        "see whether its disk is still there",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), "free some memory"),
}
# What a half-copied or torn checkpoint gives: files that are gone, or are of another kind.
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP)
# The first words of what the storage below Orbax says of a bucket, a full device, a lost connection.
_STATUS = re.compile(
    r"\b(RESOURCE_EXHAUSTED|PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED)\b"
)


def refuse_brackets(folder: Path) -> None:
    """Refuse a folder below which Orbax loses what it writes: it takes `[2026]` for a set of characters.

    >>> refuse_brackets(Path("/data/[2026] birds/run"))
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: --workdir: /data/[2026] birds/run: checkpoints cannot be kept below a folder \
with [ in its name; choose another

    Args:
      folder: from the root of its disk.

    Raises:
      UserError: a folder's name does not match itself.
    """
    if not all(fnmatchcase(part, part) for part in folder.parts if "[" in part):
        raise UserError(
            f"--workdir: {folder}: checkpoints cannot be kept below a folder with [ in its name; "
            "choose another"
        )


def checkpoints_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, ascending; what they hold need not be whole.

    In a bucket, those whose last object was written.

    Raises:
      UserError: the folder cannot be looked into.
    """
    try:
        numbered = [path for path in folder.iterdir() if path.name.isdecimal()]
        return sorted(int(path.name) for path in numbered if _is_committed(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        if isinstance(error, NotADirectoryError) and not folder.exists():
            return []  # a file in place of a folder above
        raise _cannot_be_opened(folder, error) from error


def half_written(folder: Path) -> list[Path]:
    """What a run that was killed while it saved has left in `folder`, or saves just now."""
    found = entries(folder)
    numbered = [path for path in found if path.name.isdecimal() and not _is_committed(path)]
    return [*(path for path in found if _HALF_WRITTEN in path.name), *numbered]


def _is_committed(checkpoint: Path) -> bool:
    return not in_bucket(checkpoint) or (checkpoint / _COMMITTED).exists()


def left_aside(folder: Path) -> list[str]:
    """Names of the damaged checkpoints that were left aside in `folder`."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("damaged-"))


def refuse_unopened(checkpoint: Path, error: BaseException) -> None:
    """Return if the checkpoint, or another file of a run, is damaged, after `error` came of reading it.

    Raises:
      UserError: it could not be opened: rights, a lost disk, too many open files, no memory.
    """
    for cause in _causes(error):
        if isinstance(cause, MemoryError):
            raise UserError(
                f"{checkpoint} cannot be read (no memory is left): free some, {_AGAIN}"
            ) from error
        number = error_number(cause)
        if number and number not in _DAMAGE:
            raise _cannot_be_opened(getattr(cause, "filename", None) or checkpoint, cause) from error
        status = _STATUS.search(str(cause)) or isinstance(cause, (jax.errors.JaxRuntimeError, ImportError))
        if status or "can't start new thread" in str(cause):
            reason = " ".join(str(cause).split())[:200]
            raise UserError(f"{checkpoint} cannot be read here ({reason}); it is left as it is") from error
    for file, failed in _unreadable(checkpoint):
        raise _cannot_be_opened(file, failed) from error


def reason_of(error: BaseException) -> str:
    """What is wrong with a damaged checkpoint, in a few words, after `error` came of reading it.

    >>> reason_of(KeyError("tree_metadata")), reason_of(ValueError("another digest"))
    ("a description in it is not as it was written (KeyError: 'tree_metadata')", 'another digest')
    """
    said = " ".join(str(error).split())[:200]
    if isinstance(error, (LookupError, TypeError, AttributeError, UnicodeError, json.JSONDecodeError)):
        return f"a description in it is not as it was written ({type(error).__name__}: {said})"
    return said or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [*getattr(cause, "exceptions", ()), cause.__cause__, cause.__context__]


def _unreadable(folder: Path) -> Iterator[tuple[Path, OSError]]:
    """Files and folders that cannot be read: what Orbax makes of them need not say so."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        if error.errno not in _DAMAGE:
            yield folder, error
        return
    for path in entries:
        try:
            path.stat() if in_bucket(path) else os.stat(path)
            if path.is_dir():
                yield from _unreadable(path)
                continue
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
        except OSError as error:
            if error.errno not in _DAMAGE:
                yield path, error


def _cannot_be_opened(path: os.PathLike | str, error: BaseException) -> UserError:
    number = error_number(error)
    reason = os.strerror(number) if number else " ".join(str(error).split())[:200]
    advice = _ADVICE.get(number or 0, "see what is wrong with it")
    return UserError(f"{os.fspath(path)} cannot be opened ({reason}): {advice}, {_AGAIN}")
