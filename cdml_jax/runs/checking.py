"""All of a run that is under a digest, read and compared: settings, names, checkpoints, folds, images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

from etils.epath import Path

from cdml_jax.configuration import keys, places
from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.settings import Settings, changed, from_plain
from cdml_jax.data.feeds.features import damage_of
from cdml_jax.data.sources import images_cache
from cdml_jax.errors import UserError
from cdml_jax.runs import best, class_names, image_digests, opening, stored
from cdml_jax.system import files
from cdml_jax.system.archives import Archive, DamagedError, intact


class Finding(NamedTuple):
    """A file or an image that is not as it was written.

    Attributes:
      name: the path of the file; an image's name.
      what: what is wrong with it.
    """

    name: str
    what: str


class Checking:
    """Goes through a workdir of `cdml train` or `cdml reproduce`; nothing in it is changed.

    Args:
      folder: the workdir.
      changes: text by dotted keys that say where things are now, such as `source`.

    Attributes:
      read: how many files or images of each kind were read.

    Raises:
      UserError: it holds no run.
    """

    def __init__(self, folder: Path, changes: Mapping[str, str]):
        if not (folder / "config.json").exists() and not any((folder / name).exists() for name in _PARTS):
            raise UserError(f"{folder} holds no run (no config.json)")
        self.folder, self.changes = folder, changes
        self.read: Counter[str] = Counter()

    def findings(self) -> Iterator[Finding]:
        """What is wrong, one file or image after the other."""
        config = yield from self._settings(self.folder)
        for path in (yield from self._entries(self.folder / "runs")):
            if path.is_dir():
                yield from self._run(path)
        yield from self._run(self.folder)
        for path in (yield from self._entries(self.folder / "folds")):
            for inside in [path, *(yield from self._entries(path))]:
                if inside.is_dir():
                    yield from self._run(inside)
                elif inside.name.endswith(".npz"):
                    yield from self._of_file("folds", inside, Archive)
        if config is not None:
            yield from self._features(config)
            yield from self._images(config)

    def _run(self, folder: Path) -> Iterator[Finding]:
        """Checkpoints and log of one run, and of a table's also its settings."""
        if folder != self.folder and (folder / "config.json").exists():
            yield from self._settings(folder)
        for place in ("checkpoints", best.FOLDER):
            for path in (yield from self._entries(folder / place)):
                if path.name.isdecimal():
                    reader = _read_best if place == best.FOLDER else _read_checkpoint
                    yield from self._of_file("checkpoints", path, reader)
                elif path.name.startswith("damaged-"):
                    yield Finding(str(path), "a damaged checkpoint that was left aside")
        if (folder / "metrics.jsonl").exists():
            yield from self._of_file("logs", folder / "metrics.jsonl", _read_log)
        yield from _lost_checkpoints(folder)

    def _settings(self, folder: Path) -> Generator[Finding, None, Settings | None]:
        """config.json, classes.json and the card's record; gives the settings, where they are whole."""
        wrong = list(self._of_file("settings", folder / "config.json", _read_sealed))
        yield from wrong
        yield from self._of_file("settings", folder / class_names.FILE, _read_sealed)
        if (folder / _CARD).exists():
            yield from self._of_file("cards", folder / _CARD, _read_sealed)
        if wrong:
            return None
        record = json.loads((folder / "config.json").read_text())
        values = keys.overridden(record["config"], self.changes)
        now = places.digests(values)
        for key, began in record.get("files", {}).items():
            self.read["files of settings"] += key in now
            if now.get(key, began) != began:
                yield Finding(
                    f"{key} ({keys.flat(values)[key]})", "its content has changed since the run began"
                )
        return from_plain(values)

    def _features(self, config: Settings) -> Iterator[Finding]:
        """Of a frozen network: all that are kept where its own are."""
        cache = images_cache(config.data.data_dir)
        if not config.model.frozen or cache is None:
            return
        for path in (yield from self._entries(cache / "features")):
            if path.name.endswith(".npy"):
                self.read["features"] += 1
                damage = damage_of(path)
                if damage is not None:
                    yield Finding(str(damage[0]), damage[1])

    def _images(self, config: Settings) -> Iterator[Finding]:
        record = json.loads((self.folder / "config.json").read_text())
        try:
            # Without decoding: an image that cannot be read is one line of several.
            dataset = load_dataset(changed(config, {"data.check": False}), remembered=False)
        except UserError as error:
            yield Finding("images", " ".join(str(error).split()))
            return
        named = False
        if (self.folder / image_digests.FILE).exists():
            try:
                for name, what in image_digests.changed(self.folder, dataset):
                    named = True
                    yield Finding(name, what)
                self.read["images"] += sum(map(len, dataset.splits.values()))
            except (OSError, DamagedError) as error:
                yield _finding(self.folder / image_digests.FILE, error)
        elif record.get("contents") and self.folder.parent.name != "runs":  # a table keeps those of its runs
            yield Finding(str(self.folder / image_digests.FILE), "is gone: images were not compared")
        if not named and dataset.fingerprint() != record["fingerprint"]:
            yield Finding(
                "images", f"those of {config.source} have other names, classes or splits than the run's"
            )

    def _of_file(self, kind: str, path: Path, reader: Callable[[Path], Any]) -> Iterator[Finding]:
        self.read[kind] += 1
        try:
            reader(path)
        except Exception as error:  # whatever Orbax, NumPy or JSON raise on damaged files
            yield _finding(path, error)

    def _entries(self, folder: Path) -> Generator[Finding, None, list[Path]]:
        """What is in a folder; one that cannot be looked into is a finding."""
        try:
            return files.entries(folder)
        except OSError as error:
            yield _finding(folder, error)
            return []


_CARD = "card.json"  # of the room above, reporting
_PARTS = ("checkpoints", best.FOLDER, "results", "runs", "folds", class_names.FILE, image_digests.FILE)


def _lost_checkpoints(folder: Path) -> Iterator[Finding]:
    """A finished run without a checkpoint; one that has just begun need not have any."""
    log, checkpoints = folder / "metrics.jsonl", folder / "checkpoints"
    try:
        epochs = json.loads((folder / "config.json").read_text())["config"]["epochs"]
        trained = len(log.read_text(encoding="utf-8").splitlines())
        if trained >= epochs and not files.entries(checkpoints):
            yield Finding(str(checkpoints), f"is gone, or empty: the log has all {epochs} epochs")
    except (OSError, ValueError, LookupError, TypeError):
        return  # said of the file, or not written yet


def _read_best(path: Path) -> None:
    """Also compares it with the run's log: another run's best epoch is not this one's."""
    _read_checkpoint(path)
    meta = stored.read_meta(files.absolute(path))
    try:
        lines = (path.parent.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        entry = json.loads(lines[meta["epoch"] - 1])
    except (OSError, ValueError, LookupError):
        return  # said of the log
    if entry.get("validation_accuracy") != meta["validation_accuracy"]:
        raise UserError(f"{path} is not of this run: its log has another accuracy at epoch {meta['epoch']}")


def _finding(path: Path, error: Exception) -> Finding:
    """What is wrong with a file that could not be read whole: gone, not to be opened, or damaged."""
    if isinstance(error, FileNotFoundError):
        return Finding(str(path), "is gone")
    try:
        if isinstance(error, UserError):
            raise error
        opening.refuse_unopened(path, error)
    except UserError as told:
        return Finding(str(path), str(told).removeprefix(f"{path} "))
    return Finding(str(path), f"is damaged: {' '.join(str(error).split())[:200] or type(error).__name__}")


def _read_sealed(path: Path) -> None:
    if not intact(json.loads(path.read_text(encoding="utf-8"))):
        raise UserError(f"{path} is not as the run wrote it: edited, damaged, or of an older version")


def _read_checkpoint(path: Path) -> None:
    stored.quiet_orbax()
    try:
        whole = files.absolute(path)
        meta = stored.read_meta(whole)
        arrays = stored.read_arrays(whole, meta["checksums"], lambda name: True)
    except Exception as error:
        opening.refuse_unopened(path, error)
        raise
    step = arrays["state"].get("step")
    if step is not None and int(step) != int(path.name):
        raise UserError(f"{path} is the checkpoint of step {int(step)}: it was renamed")


def _read_log(path: Path) -> None:
    """Compares the lines with the history of the newest checkpoint, which is under a digest."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    checkpoints = path.parent / "checkpoints"
    for step in reversed(opening.checkpoints_in(checkpoints)):
        try:
            history = stored.read_meta(checkpoints / str(step))["history"]
        except (OSError, ValueError):
            continue  # said of the checkpoint
        for line, entry in zip(lines, history):
            if json.dumps(line) != json.dumps(entry):
                raise UserError(f"{path} is not as the run wrote it: epoch {entry['epoch']} is another")
        if len(lines) < len(history):
            raise UserError(f"{path} has {len(lines)} epochs of {len(history)}")
        return
