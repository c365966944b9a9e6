"""Where compiled programs are kept, so that the next start need not compile them."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax

from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.files import cache_directory_if_any, path_of

AUTO = "auto"
_WORTH_KEEPING_SECONDS = 0.1  # what compiles faster is not kept


def keep_compiled(compilation_cache: str) -> Path | None:
    """Have JAX keep what it compiles in a folder and look there first.

    A folder that JAX already has, from `JAX_COMPILATION_CACHE_DIR` or the calling program, stays.

    Args:
      compilation_cache: a folder; "auto" for one in the user's cache folder; "" for none.

    Returns:
      The folder that is now used, or None.

    Raises:
      UserError: a folder that was named cannot be made, or is in a bucket.
    """
    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if given is not None:
        return _used_as_given(given) if given else None
    if not compilation_cache:
        return None
    named = compilation_cache != AUTO
    if in_bucket(compilation_cache):
        raise UserError(
            f"compilation_cache: {compilation_cache}: compiled programs are kept on a disk of this machine; "
            "give a folder of it"
        )
    root = path_of(compilation_cache) if named else cache_directory_if_any()
    if root is None:
        return None  # no home folder
    folder = Path((root if named else root / "compiled") / _machine())
    try:
        _make(folder)
    except OSError as error:
        if named:
            raise UserError(
                f"compilation_cache: {folder} cannot be made ({error.strerror or error})"
            ) from error
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING_SECONDS)
    return folder


def _used_as_given(given: str) -> Path | None:
    """The folder that JAX has, with `~` expanded; without a cache where it cannot be used, which is said."""
    folder = Path(path_of(given))
    try:
        if not in_bucket(given):
            _make(folder)
    except OSError as error:
        reason = error.strerror or error
        console.warn(f"JAX_COMPILATION_CACHE_DIR: {given} cannot be used ({reason}): nothing is kept there")
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    if given.startswith("~"):
        jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _make(folder: Path) -> None:
    """Make a folder that can be read; where nothing can be written, what others have compiled is used."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    if not os.access(folder, os.W_OK):
        _say_unwritable(folder)


@functools.cache  # a command may ask more than once
def _say_unwritable(folder: Path) -> None:
    console.warn(f"{folder} cannot be written: what is compiled is not kept")
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache")  # one of each program


def _machine() -> str:
    """A name that machines share only if one runs what another has compiled for its processor.

    JAX's own key does not tell processors apart, and a home folder may serve nodes of several kinds.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    digest = hashlib.sha256(" ".join(sorted(features.split())).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:8]}-jax{jax.__version__}"
