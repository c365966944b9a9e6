"""Files that are whole or absent, locks, and the user's cache folder.

Paths are `etils.epath` paths, so a workdir may be a folder on this machine or in a bucket (`gs://…`,
`system.buckets`). Whoever reads a file that is written here sees the old one or the whole new one, whatever
ends the writer.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from etils import epath

from cdml_jax.errors import UserError
from cdml_jax.system import buckets, console
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.leases import leased

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    errno.EFBIG: "allow larger files (ulimit -f)",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE, errno.EIO, errno.ENOTCONN), "is its disk still there?"),
}
_MEANT_FOR_A_BUCKET = re.compile(rf"\s*{buckets.SCHEME}:", re.IGNORECASE)


def path_of(text: str | os.PathLike) -> epath.Path:
    """The path that a person means: `~` is their home folder, `gs://` a bucket.

    Raises:
      UserError: `~` is used where no home folder is known; it is an address of the web, or nearly a
        bucket's; or the bucket cannot be reached.
    """
    expanded = os.path.expanduser(text)
    scheme, mark, _ = expanded.partition("://")
    if mark and scheme == buckets.SCHEME:
        buckets.reach(expanded)
    elif _MEANT_FOR_A_BUCKET.match(expanded):  # else a folder "gs:" on this machine
        raise UserError(f"{os.fspath(text)!r} is not a bucket's path: write gs://BUCKET/FOLDER")
    elif mark:
        raise UserError(
            f"{os.fspath(text)}: {scheme}:// is neither read nor written; fetch what is there, and give "
            "its path"
        )
    if expanded.startswith("~"):  # that is what the function leaves where no home folder is known
        raise UserError(f"{os.fspath(text)}: there is no such home folder; write the whole path")
    return epath.Path(expanded)


def absolute(path: os.PathLike | str) -> epath.Path:
    """The path from the root of its disk, or of its bucket.

    >>> print(absolute("gs://bucket/run"))
    gs://bucket/run
    """
    found = epath.Path(path)
    return found if in_bucket(found) else epath.Path(os.path.abspath(found))


def has_room_for_files(folder: os.PathLike | str) -> bool:
    """Whether files can be put into a folder: it is there, or in a bucket, where folders are but names."""
    return in_bucket(folder) or absolute(folder).is_dir()


def cache_directory() -> epath.Path:
    """Where data are kept if nothing is configured: $CDML_DATA_DIR, else cdml_jax in the user's cache folder.

    Raises:
      UserError: no home folder is known, and neither variable is set; or CDML_DATA_DIR is in a bucket.
    """
    if os.environ.get("CDML_DATA_DIR"):
        given = os.environ["CDML_DATA_DIR"]
        if in_bucket(given):
            raise UserError(
                f"CDML_DATA_DIR: {given}: caches are kept on a disk of this machine; give a folder"
            )
        return path_of(given)
    try:
        return path_of(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "cdml_jax"
    except UserError:
        raise UserError("no home folder is known: set CDML_DATA_DIR to a folder for caches") from None


def cache_directory_if_any() -> epath.Path | None:
    """As `cache_directory`, but None where no home folder is known.

    Raises:
      UserError: CDML_DATA_DIR is in a bucket.
    """
    try:
        return cache_directory()
    except UserError:
        if os.environ.get("CDML_DATA_DIR"):
            raise
        return None


def error_number(error: BaseException) -> int | None:
    """The system's number of what failed; None where it has none.

    >>> error_number(OSError(errno.EIO, "")), error_number(ValueError("... os_error_code='28'"))
    (5, 28)
    """
    if isinstance(error, FileNotFoundError):  # of a bucket's objects it comes without the number
        return errno.ENOENT
    # The storage below Orbax raises ValueError, with the number in its text.
    told = re.search(r"os_error_code='(\d+)'", str(error))
    return int(told[1]) if told else error.errno if isinstance(error, OSError) else None


def entries(folder: epath.Path) -> list[epath.Path]:
    """What is in a folder, in the order of the names; nothing where there is no such folder.

    Raises:
      OSError: it cannot be looked into.
    """
    return sorted(folder.iterdir()) if folder.is_dir() else []


def size(path: os.PathLike | str) -> int:
    """Bytes of a file.

    Raises:
      OSError: it is not there, or cannot be looked at.
    """
    # Of a file on this machine epath asks for its owner's name too, which a container's user may lack.
    if in_bucket(path):
        return epath.Path(path).stat().length
    return os.stat(path).st_size


@contextlib.contextmanager
def writing(place: os.PathLike | str) -> Iterator[None]:
    """Inside it, what the disk that holds `place` refuses becomes one line that says what to do.

    >>> with writing("/mnt/runs"):
    ...     raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: /mnt/runs cannot be written (No space left on device): make room there, then \
run the same command again; what was saved before stays
    """
    try:
        yield
    except Exception as error:
        number = error_number(error)
        ours = isinstance(error, OSError) or (isinstance(error, ValueError) and number is not None)
        # What the libraries below a bucket raise is of many kinds.
        if isinstance(error, UserError) or not (ours or in_bucket(place)):
            raise
        reason = os.strerror(number) if number else str(error)
        advice = _ADVICE.get(number or 0, "see what is wrong with it")
        raise UserError(
            f"{os.fspath(place)} cannot be written ({reason}): {advice}, then run the same command again; "
            "what was saved before stays"
        ) from error


@contextlib.contextmanager
def replacing(path: os.PathLike | str) -> Iterator[epath.Path]:
    """Gives a path to write to; it takes the place of `path` at the end, or disappears with an error.

    The temporary file lies in the same folder under a hidden name that ends in `.tmp`; those that a killed
    process left are removed. For a bucket it lies on this machine, and is uploaded as one object.

    Raises:
      OSError: as the disk raises it; `writing` makes a message of it.
    """
    whole = epath.Path(path)
    if in_bucket(whole):
        with tempfile.TemporaryDirectory() as folder:
            yield epath.Path(folder) / whole.name
            buckets.upload(epath.Path(folder) / whole.name, whole)
        return
    for left in _leftovers(whole):
        left.unlink(missing_ok=True)
    temporary = whole.parent / f".{whole.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        temporary.replace(whole)
    finally:
        temporary.unlink(missing_ok=True)


def _leftovers(path: epath.Path) -> list[epath.Path]:
    """Temporary files of `path` whose process is gone."""
    mark = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.tmp")
    try:
        found = [(entry, mark.fullmatch(entry.name)) for entry in path.parent.iterdir()]
    except OSError:
        return []
    return [entry for entry, match in found if match and not _lives(int(match[1]))]


def _lives(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C: not even a file is worth that
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_bytes(path: os.PathLike | str, content: bytes) -> None:
    """Write a file whole or not at all; its folder must be there.

    Raises:
      UserError: it cannot be written.
    """
    with writing(path), replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: os.PathLike | str, content: str) -> None:
    """Write UTF-8 text whole or not at all; a file that holds it already stays untouched.

    Raises:
      UserError: it cannot be written.
    """
    with contextlib.suppress(OSError):
        if epath.Path(path).read_bytes() == content.encode():
            return
    write_bytes(path, content.encode())


def write_json(path: os.PathLike | str, value: Any, *, sort_keys: bool = False) -> None:
    """Write a value as indented JSON, whole or not at all.

    Raises:
      UserError: it cannot be written.
      ValueError: the value holds NaN or infinity, which JSON has no word for.
    """
    text = json.dumps(value, indent=1, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


@contextlib.contextmanager
def locked(path: os.PathLike | str, busy: str | None) -> Iterator[None]:
    """Keeps every other process that asks for the same lock out until the end, however this process ends.

    Where locks do not exist (some network disks, Windows) one warning is printed instead. In a bucket the
    lock is a lease (`system.leases`).

    Args:
      path: the lock's file; made if absent, and left there.
      busy: the message if another process holds it; None waits for that process.

    Raises:
      UserError: another process holds it, or the file cannot be made.
    """
    if in_bucket(path):
        with leased(path, busy):
            yield
        return
    try:
        import fcntl  # here: reading and inference work where it does not exist
    except ImportError:
        console.warn(f"{os.fspath(path)} cannot be locked here: see to it that no other run uses it")
        yield
        return
    with contextlib.ExitStack() as stack:
        with writing(epath.Path(path).parent):
            file: IO[str] = stack.enter_context(open(path, "w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UserError(busy) from None
        except OSError as error:
            console.warn(
                f"{os.fspath(path)} cannot be locked ({error.strerror}): see to it that no other run uses it"
            )
        yield
