"""Memory in huge pages: XLA's programs for CPUs ask for theirs again in every step, page by page."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

_VARIABLE, _WANTED = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
_SYSTEM = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Start this process again, under the same number, with the C library set to ask for huge pages.

    Only where that helps and nobody decided otherwise: Linux that gives them to who asks ("madvise"), and
    `GLIBC_TUNABLES` not set. The C library reads it when a process starts, hence the restart.
    """
    if _VARIABLE in os.environ or not sys.platform.startswith("linux"):
        return
    try:
        asked_for = "[madvise]" in _SYSTEM.read_text()
    except OSError:
        return
    if asked_for:
        os.environ[_VARIABLE] = _WANTED
        # Where the interpreter may not be started again by this user, work goes on in small pages.
        with contextlib.suppress(OSError):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
