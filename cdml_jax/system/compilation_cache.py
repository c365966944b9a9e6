"""Where compiled programs are kept, so that the next start need not compile them."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import jax

from cdml_jax.errors import UserError
from cdml_jax.system.files import cache_directory

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
      UserError: a folder that was named cannot be made.
    """
    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if given is not None:
        return Path(given) if given else None
    if not compilation_cache:
        return None
    named = compilation_cache != AUTO
    root = Path(compilation_cache).expanduser() if named else cache_directory() / "compiled"
    folder = root / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if named:
            raise UserError(
                f"compilation_cache: {folder} cannot be made ({error.strerror or error})"
            ) from error
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING_SECONDS)
    return folder


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
