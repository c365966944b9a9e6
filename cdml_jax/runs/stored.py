"""What a checkpoint holds on disk, read without the program that wrote it, and compared with its digests."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils.epath import Path

from cdml_jax.runs import opening
from cdml_jax.runs.checksums import checksums

Tree = Any
_SEQUENCE = 1  # Orbax's number of a key that is a place in a list or tuple


def quiet_orbax() -> None:
    """Drop what its threads and tasks print of failures, each of which is raised here as well.

    Reads that it began, and after the first that failed no longer awaits, end whenever they end: what they
    print is dropped from here on.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


class _Unraisable:
    """A hook for exceptions that nobody can catch, which leaves out those of reads that nobody awaits."""

    def __init__(self, before: Callable[[Any], Any]):
        self.before = before

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            self.before(unraisable)


def digest(meta: Mapping[str, Any]) -> str:
    """Of all that a checkpoint's `meta` says, but for the digest itself."""
    content = {key: value for key, value in meta.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_meta(checkpoint: Path) -> dict[str, Any]:
    """Where the run stood, its history, and the checksums of its arrays.

    Raises:
      ValueError: it is not what was written.
      OSError: it cannot be read.
    """
    meta = json.loads((checkpoint / "meta" / "metadata").read_text())
    if not isinstance(meta, dict) or meta.get("digest") != digest(meta):
        raise ValueError("wrong digest of meta")
    return meta


def epochs_begun(checkpoints: Path) -> int:
    """How many epochs a run has trained, the one that it stands in included, by its whole checkpoints.

    Raises:
      UserError: one cannot be opened.
    """
    begun = 0
    for step in opening.checkpoints_in(checkpoints):
        try:
            meta = read_meta(checkpoints / str(step))
        except (OSError, ValueError) as error:
            opening.refuse_unopened(checkpoints / str(step), error)
            continue  # damaged: said where it is restored
        begun = max(begun, meta["epoch"] + bool(meta["step_in_epoch"]))
    return begun


def read_arrays(checkpoint: Path, checksums_of: Mapping[str, str], wanted: Callable[[str], bool]) -> Tree:
    """Arrays of a checkpoint on the host, nested as they were, all of them whole.

    Neither the sharding that was written nor the devices that there were matter.

    Args:
      checkpoint: its folder.
      checksums_of: of every array by its dotted name, as `read_meta` gives them.
      wanted: which arrays, by their dotted names.

    Raises:
      ValueError: an array is absent or not what was written.
      Exception: whatever Orbax and its storage raise on damaged files.
    """
    run = checkpoint / "run"
    target = _structure(run, wanted)
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        arrays = reader.restore(
            run, args=ocp.args.PyTreeRestore(item=target, restore_args=arguments, partial_restore=True)
        )
    found, expected = checksums(arrays), {name: sum_ for name, sum_ in checksums_of.items() if wanted(name)}
    differ = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    if differ:
        raise ValueError(f"wrong checksum of {', '.join(differ[:3])}")
    return arrays


def _structure(run: Path, wanted: Callable[[str], bool]) -> Tree:
    """0 for each array that is wanted, None for what else a list holds, nested as in the checkpoint."""
    entries = json.loads((run / "_METADATA").read_text())["tree_metadata"].values()
    root: dict[tuple[str, int], Any] = {}
    for entry in entries:
        keys = [(key["key"], key["key_type"]) for key in entry["key_metadata"]]
        name = ".".join(key for key, _ in keys)
        if not wanted(name):
            continue
        node = root
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = None if entry["value_metadata"]["skip_deserialize"] else 0
    return _nested(root)


def _nested(node: Any) -> Tree:
    if not isinstance(node, dict):
        return node
    if node and all(kind == _SEQUENCE for _, kind in node):
        return [_nested(node[key]) for key in sorted(node, key=lambda key: int(key[0]))]
    return {key: _nested(value) for (key, _), value in node.items()}
