"""A run's folder: what it was configured with, and that nobody continues it with something else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdml_jax.configuration.keys import flat
from cdml_jax.configuration.settings import Settings, to_plain
from cdml_jax.errors import UserError
from cdml_jax.system import files

# Keys that say where and how fast, not what: a run may be continued with others.
_FREE = (
    "data.data_dir",
    "data.check",
    "data.cache_bytes",
    "data.num_threads",
    "checkpoint.",
    "reproduce.",
    "profile.",
    "compilation_cache",
)


def claim(
    workdir: Path,
    command: str,
    config: Settings,
    fingerprint: str,
    *,
    split_checksum: str = "",
    write: bool = True,
) -> None:
    """Make `workdir` this run's, or find that it is already; where not `write`, only look.

    Raises:
      UserError: it cannot be written, or holds a run of another command, configuration or data set; the first
        keys that differ are named.
    """
    mine: dict[str, Any] = {"command": command, "fingerprint": fingerprint, "config": to_plain(config)}
    if split_checksum:
        mine["split_checksum"] = split_checksum
    path = workdir / "config.json"
    if path.exists():
        theirs = read(workdir)
        if theirs["command"] != command:
            raise UserError(f"{workdir} holds a run of `cdml {theirs['command']}`; choose another --workdir")
        ours, other = flat(mine["config"]), flat(theirs["config"])
        differ = [
            f"{key} ({other.get(key, 'nothing')!r} there, {ours.get(key, 'nothing')!r} here)"
            for key in sorted(ours.keys() | other.keys())
            if ours.get(key) != other.get(key) and not key.startswith(_FREE)
        ]
        if differ:
            raise UserError(
                f"{workdir} holds a run of another configuration: {', '.join(differ[:3])}; "
                "choose another --workdir, or delete it"
            )
        if theirs["fingerprint"] != fingerprint:
            raise UserError(
                f"{workdir} holds a run on other images of {config.source}; choose another --workdir"
            )
    if not write:
        return
    content = json.dumps(mine, indent=1, sort_keys=True) + "\n"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(path, content)
    except OSError as error:
        raise UserError(
            f"--workdir: {workdir} cannot be written ({error.strerror or error}); choose another"
        ) from error


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Keeps every other run out of `workdir` until this one ends, however it ends.

    Raises:
      UserError: another run holds it.
    """
    busy = f"{workdir} is in use by another run; wait for it, or choose another --workdir"
    with files.locked(workdir / ".lock", busy):
        yield


def read(workdir: Path) -> dict[str, Any]:
    """What `claim` wrote.

    Raises:
      UserError: it is no run's folder.
    """
    path = workdir / "config.json"
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict) or {"command", "config", "fingerprint"} - stored.keys():
            raise ValueError("it is not what a run writes")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"--workdir: {workdir} holds no run (no config.json)") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); choose another --workdir, or bring the file back"
        ) from error
    return stored
