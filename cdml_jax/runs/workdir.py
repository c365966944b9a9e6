"""A run's folder: what it was configured with, and that nobody continues it with something else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils.epath import Path

from cdml_jax.configuration import places
from cdml_jax.configuration.keys import flat
from cdml_jax.configuration.settings import Settings, to_plain
from cdml_jax.errors import UserError
from cdml_jax.runs import opening, stored
from cdml_jax.system import console, files
from cdml_jax.system.archives import intact, sealed

# Keys that say where and how fast, not what: a run may be continued with others.
FREE = (
    "source",  # the images themselves are compared
    "data.data_dir",
    "data.check",
    "data.cache_bytes",
    "data.num_threads",
    "checkpoint.",
    "reproduce.",
    "profile.",
    "live",
    "compilation_cache",
    "early_stopping",
)
# What only a run leaves: without its config.json nobody knows which.
_LEFT = ("checkpoints", "best", "metrics.jsonl", "results", "runs", "folds")


def look(
    workdir: Path, command: str, config: Settings, *, method_digest: str = "", pooled: bool = False
) -> None:
    """Refuse a folder that cannot be this run's, by all that is known before any image is read.

    Args:
      workdir, command, config: as `claim` takes them.
      pooled: as `claim` takes it.
      method_digest: of a method that the package does not have; "" for its own.

    Raises:
      UserError: as `claim`; or another run holds it.
    """
    opening.refuse_brackets(files.absolute(workdir))
    if (workdir / ".lock").exists():
        with held(workdir):
            pass
    _theirs(workdir, command, to_plain(config), method_digest, pooled)


def begun_with(workdir: Path) -> dict[str, Any] | None:
    """The plain settings of the folder's run; None where none can be read, which `look` refuses."""
    try:
        return _read(workdir)["config"]
    except UserError:
        return None


def refuse_run_of_a_table(folder: Path) -> None:
    """Refuse to train on what a table compares: its runs have equal steps, and `reproduce` goes on with them.

    Raises:
      UserError: `folder` is one of its runs.
    """
    workdir = files.absolute(folder)
    table = workdir.parent.parent
    if workdir.parent.name != "runs" or not (table / "config.json").exists():
        return
    if _read(table)["command"] == "reproduce":
        raise UserError(
            f"--workdir: {workdir} is a run of the table in {table}, whose runs have equal steps; to go on "
            f"from it, give another --workdir and --config.model.weights={workdir}"
        )


def claim(
    workdir: Path,
    command: str,
    config: Settings,
    fingerprint: str,
    *,
    split_checksum: str = "",
    contents: Mapping[str, str] | None = None,
    pooled: bool = False,
    method: Mapping[str, str] | None = None,
    write: bool = True,
) -> None:
    """Make `workdir` this run's, or find that it is already.

    Args:
      workdir: the run's folder; made if missing.
      command: whose run it is, "train" or "reproduce".
      config: of the run. Of one of "train", `epochs` may be others than it began with: more, or fewer that
        are not trained yet.
      fingerprint: of the data set.
      split_checksum: of the publisher's splits, where there is one.
      contents: digest of each split's images, where they were checked: those that the run begins with stay,
        and a warning says where images have changed since.
      pooled: whether the validation images are trained on.
      method: what use of a run asks of its method: `title`, the `embedding` that is measured, the `part`
        of the network if it has one, and the `digest` of one that the package does not have.
      write: False only looks.

    Raises:
      UserError: it cannot be written, or holds a run of another command, configuration or data set, of which
        the first keys that differ are named; or its config.json was changed, is gone, or cannot be opened;
        or checkpoints cannot be kept there.
    """
    opening.refuse_brackets(files.absolute(workdir))
    plain = places.from_the_root(to_plain(config))
    mine: dict[str, Any] = {"command": command, "fingerprint": fingerprint, "config": plain}
    mine |= {"split_checksum": split_checksum} if split_checksum else {}
    mine |= {"contents": dict(contents)} if contents else {}
    mine |= {"pooled": True} if pooled else {}
    mine |= {"method": dict(method)} if method else {}
    mine |= {"files": found} if (found := places.digests(plain)) else {}
    theirs = _theirs(workdir, command, plain, mine.get("method", {}).get("digest", ""), pooled)
    if theirs is not None:
        changed = check_images(workdir, theirs, fingerprint, contents or {}, source=config.source)
        # What the run began with stays.
        mine |= {key: theirs[key] for key in ("contents", "files") if key in theirs}
        if write:
            _say_changes(workdir, places.from_the_root(theirs["config"]), plain, same=not changed)
    if not write:
        return
    content = json.dumps(sealed(mine), indent=1, sort_keys=True) + "\n"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(workdir / "config.json", content)
    except OSError as error:
        raise UserError(
            f"--workdir: {workdir} cannot be written ({error.strerror or error}); choose another"
        ) from error


def _theirs(
    workdir: Path, command: str, plain: Mapping[str, Any], method_digest: str, pooled: bool
) -> dict[str, Any] | None:
    """What the folder's run was claimed with, if it may be continued so; None in a new folder."""
    path = workdir / "config.json"
    if not path.exists():
        left = [name for name in _LEFT if (workdir / name).exists()]
        if left:
            raise UserError(
                f"{workdir} holds {' and '.join(left)} of a run whose config.json is gone; bring the file "
                "back, or choose another --workdir"
            )
        return None
    theirs = _read(workdir)
    if not intact(theirs):
        raise UserError(
            f"{path} is not as the run wrote it (edited, damaged, or of an older version); "
            "bring the file back, or choose another --workdir"
        )
    if theirs["command"] != command:
        raise UserError(f"{workdir} holds a run of `cdml {theirs['command']}`; choose another --workdir")
    _refuse_settings(workdir, command, plain, theirs)
    if theirs.get("method", {}).get("digest", "") != method_digest:
        raise UserError(
            f"{workdir} holds a run of another method, or of another version of its code; bring that version "
            "back, or choose another --workdir"
        )
    if theirs.get("pooled", False) != pooled:
        raise UserError(
            f"{workdir} holds a run of a table whose validation images are trained on (reproduce.folds); "
            "choose another --workdir"
        )
    return theirs


def _refuse_settings(workdir: Path, command: str, plain: Mapping[str, Any], theirs: dict[str, Any]) -> None:
    plain = places.from_the_root(plain)
    ours, other = flat(plain), flat(places.from_the_root(theirs["config"]))
    began, now = theirs.get("files", {}), places.digests(plain)
    changed = [key for key in began if began[key] != now.get(key, began[key])]
    # A file that has moved is the same file.
    moved = [key for key in began if began[key] == now.get(key)]
    free = (*FREE, *moved, *(["epochs"] if command == "train" else []))
    differ = [
        f"{key} ({other.get(key, 'nothing')!r} there, {ours.get(key, 'nothing')!r} here)"
        for key in sorted(ours.keys() | other.keys())
        if ours.get(key) != other.get(key) and not _is_free(key, free)
    ]
    if differ:
        raise UserError(
            f"{workdir} holds a run of another configuration: {', '.join(differ[:3])}; "
            "choose another --workdir, or delete it"
        )
    for key in changed:
        raise UserError(
            f"{workdir} holds a run that began with another content of {key} ({ours[key]}); bring that file "
            "back, or choose another --workdir"
        )
    trained = stored.epochs_begun(workdir / "checkpoints")
    if ours["epochs"] < other["epochs"] and ours["epochs"] < trained:
        raise UserError(
            f"{workdir} holds a run that has trained {trained} epochs already; epochs: {ours['epochs']} is "
            f"fewer: give at least {trained}, or choose another --workdir"
        )


def _is_free(key: str, free: tuple[str, ...]) -> bool:
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in free)


def _say_changes(workdir: Path, there: Mapping[str, Any], here: Mapping[str, Any], *, same: bool) -> None:
    if there["source"] != here["source"]:
        what = "the same images as" if same else "images of the same names as those"
        console.say(f"{workdir}: {what} of {there['source']} are now read from {here['source']}")
    if there["epochs"] != here["epochs"]:
        trained = stored.epochs_begun(workdir / "checkpoints")
        after = f"goes on after epoch {trained} with" if trained else "has"
        console.say(
            f"{workdir}: the run was begun for {there['epochs']} epochs and now has {here['epochs']}: it "
            f"{after} the learning rates of a run of {here['epochs']} epochs"
        )


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Keeps every other run out of `workdir` until this one ends, however it ends.

    Raises:
      UserError: another run holds it.
    """
    busy = f"{workdir} is in use by another run; wait for it, or choose another --workdir"
    with files.locked(workdir / ".lock", busy):
        yield


def check_images(
    workdir: Path,
    stored: Mapping[str, Any],
    fingerprint: str,
    contents: Mapping[str, str],
    *,
    source: str,
) -> list[str]:
    """Compare images with those that the run of a workdir began with; changed contents are a warning.

    Args:
      workdir: the run's folder.
      stored: what `claim` wrote there.
      fingerprint: of the data set at hand.
      contents: digest of each split's images, where they were checked.
      source: where they come from.

    Returns:
      The splits whose contents have changed.

    Raises:
      UserError: they are others, by their names, labels or classes.
    """
    if stored["fingerprint"] != fingerprint:
        there = stored["config"]["source"]
        others = f" of {source}" if there == source else f": {there} there, {source} here"
        raise UserError(f"{workdir} holds a run on other images{others}; choose another --workdir")
    began = stored.get("contents", {})
    changed = [split for split in contents if began.get(split, contents[split]) != contents[split]]
    if changed:
        splits = ", ".join(changed)
        console.warn(f"some images ({splits}) have changed their content since the run in {workdir} began")
    return changed


def read(workdir: Path) -> dict[str, Any]:
    """What `claim` wrote, with a warning where it was changed since.

    Raises:
      UserError: it is not a run's folder.
    """
    stored = _read(workdir)
    if not intact(stored):
        console.warn(
            f"{workdir / 'config.json'} is not as the run wrote it (edited, damaged, or of an older "
            "version): what follows may not be of the run that was trained"
        )
    return stored


def read_trained(workdir: Path) -> dict[str, Any]:
    """What `claim` wrote in the folder of one trained run, with a warning where it was changed since.

    Raises:
      UserError: it is not a run's folder, or that of a table, whose runs are named.
    """
    stored = read(workdir)
    if stored["command"] == "train":
        return stored
    runs = [run.name for run in files.entries(workdir / "runs") if (run / "config.json").exists()]
    if not runs:
        raise UserError(f"--workdir: {workdir} holds a table of `cdml reproduce`, and no run of it has begun")
    example = next((run for run in runs if run.startswith("cdml-")), runs[0])
    raise UserError(
        f"--workdir: {workdir} holds a table's runs: choose one, such as {workdir / 'runs' / example} "
        f"({', '.join(runs)})"
    )


def _read(workdir: Path) -> dict[str, Any]:
    path = workdir / "config.json"
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict) or {"command", "config", "fingerprint"} - stored.keys():
            raise ValueError("it is not what a run writes")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"--workdir: {workdir} holds no run (no config.json)") from None
    except (OSError, ValueError, RecursionError) as error:
        opening.refuse_unopened(path, error)
        raise UserError(
            f"{path} cannot be read ({error}); choose another --workdir, or bring the file back"
        ) from error
    return stored
