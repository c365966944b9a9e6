"""The one error that a person's mistake raises; the command line prints it without a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE, errno.EIO, errno.ENOTCONN), "is its disk still there?"),
}


class UserError(ValueError):
    """A mistake in a configuration, a folder or a flag: what is wrong, where, and what to do about it."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Inside it, what the disk that holds `folder` refuses becomes one line that says what to do.

    >>> with writing(Path("/mnt/runs")):
    ...     raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    Traceback (most recent call last):
    ...
    cdml_jax.errors.UserError: /mnt/runs cannot be written (No space left on device): make room there, then \
run the same command again; what was saved before stays
    """
    try:
        yield
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        # The storage below Orbax raises ValueError, with the number in its text.
        told = re.search(r"os_error_code='(\d+)'", str(error))
        if told:
            number = int(told[1])
        elif not isinstance(error, OSError):
            raise
        reason = os.strerror(number) if number else str(error)
        advice = _ADVICE.get(number or 0, "see what is wrong with it")
        raise UserError(
            f"{folder} cannot be written ({reason}): {advice}, then run the same command again; "
            "what was saved before stays"
        ) from error
