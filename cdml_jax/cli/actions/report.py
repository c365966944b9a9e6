"""The page of a run, of a table, or of several runs on the same images."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils.epath import Path

from cdml_jax.cli.actions.page import why_not
from cdml_jax.cli.actions.running import NO_CHANGES, settings_for_use
from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.settings import from_plain
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.reporting import evaluations, results
from cdml_jax.reporting.page.document import Written, write_page
from cdml_jax.reporting.page.shown import Open, Shown, as_shown
from cdml_jax.reporting.paired import aligned
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.suspects import held_out
from cdml_jax.reporting.table import Split, Table, tabulate
from cdml_jax.runs import class_names, workdir
from cdml_jax.system import console
from cdml_jax.system.files import absolute

PAGE = "report.html"
_SPLITS: tuple[Split, Split] = ("test", "validation")


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Stored results of a folder.

    Attributes:
      folder: where they lie.
      stored: what its config.json holds.
      name: of the data set.
      table: of its results; a run of `cdml train` is a table of one.
      notes: what a reader must know.
    """

    folder: Path
    stored: Mapping[str, Any]
    name: str
    table: Table
    notes: Sequence[str] = ()


def report(
    folders: Sequence[Path],
    split: str = "",
    changes: Mapping[str, str] = NO_CHANGES,
    *,
    out: Path | None = None,
    best: bool = False,
    command: str = "",
    dataset: Dataset | None = None,
) -> Written:
    """Write the page of some runs, and the files of comma-separated values beside it; prints where they are.

    Args:
      folders: workdirs; several are compared.
      split: whose images; "" is test where there are results of it, else validation.
      changes: text by dotted keys that say where things are now, such as `source`.
      out: the page; None is report.html in the folder of a single run, else in the current one.
      best: whether the best epoch of runs of `cdml train` is meant.
      command: that makes the results again, where it is known.
      dataset: of the runs, where it is at hand; else it is read.

    Raises:
      UserError: there are no such results, or the runs are of other images.
    """
    left_out = why_not()
    if left_out:
        raise UserError(f"report: {left_out}")
    founds = [found_in(folder, best=best) for folder in folders]
    found = founds[0] if len(founds) == 1 else _joined(founds)
    evaluated = [
        name for name in _SPLITS if any(getattr(each, f"{name}_counts").any() for each in found.table.results)
    ]
    if split and split not in evaluated:
        raise UserError(
            f"--split: {found.folder} has no results of {split} images; cdml evaluate measures them"
        )
    chosen: Split = "test" if "test" in (split or evaluated) else "validation"
    path = out or ((found.folder if len(founds) == 1 else Path()) / PAGE)
    shown = Shown(
        found.name,
        as_shown(found.table, chosen),
        chosen,
        open=opener(found.stored, changes, dataset) if evaluated else None,
        out_of_fold=held_out(found.folder / "folds") if len(founds) == 1 else None,
        settings=found.stored["config"],
        warmup=max(0, int(found.stored["config"]["warmup_epochs"])),
        command=command,
        notes=found.notes,
    )
    written = write_page(shown, path)
    console.result("\n".join(map(str, [written.page, *written.files])))
    return written


def found_in(folder: Path, *, best: bool = False) -> Found:
    """The stored results of a workdir of `cdml train` or `cdml reproduce`, or of a single run of a table.

    Raises:
      UserError: it holds no run.
    """
    stored = workdir.read(folder)
    name, classes = class_names.read(folder)
    table = absolute(folder).parent.parent
    if stored["command"] == "reproduce":
        kept = results.load(folder / "results")
        if not kept:
            raise UserError(f"{folder}: no run of this table has ended yet")
        titles = {key: method.title for key, method in METHODS.items()} | _own_titles(folder)
        return Found(folder, stored, name, tabulate(kept, classes, titles=titles))
    single = table / "results" / f"{folder.name}.npz"
    if single.is_file() and (table / "config.json").is_file():
        result = results.load_one(single)
        titles = {result.method: stored.get("method", {}).get("title", result.method)}
        return Found(folder, stored, name, tabulate([result], classes, titles=titles))
    return _trained(folder, stored, name, classes, best=best)


def _own_titles(folder: Path) -> dict[str, str]:
    """Titles of methods that the package does not have, as the table's runs keep them."""
    found = {}
    for path in sorted((folder / "runs").glob("*-seed*")):
        try:
            stored = json.loads((path / "config.json").read_text())
            found[stored["config"]["method"]] = stored["method"]["title"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a warm-up, or a run of an older version: the method's name serves
    return found


def _trained(folder: Path, stored: Mapping[str, Any], name: str, classes: Classes, *, best: bool) -> Found:
    """Results of a run of `cdml train`: what was evaluated of it, and its log."""
    config = from_plain(stored["config"])
    seen = {split: evaluations.load(folder, split, best=best) for split in _SPLITS}
    blank = np.zeros((classes.number, classes.number), np.int64)
    counts, notes = {}, []
    history = _history(folder)
    for split, found in seen.items():
        counts[split] = blank if found is None else _counts(found.predictions, classes.number)
        if found is not None and history and not best and found.epoch != history[-1]["epoch"]:
            notes.append(
                f"The {split} images were evaluated at epoch {found.epoch} of the {history[-1]['epoch']} "
                "that are trained."
            )
    test, validation = seen["test"], seen["validation"]
    either = test or validation
    result = RunResult(
        method=config.method,
        seed=config.seed,
        steps=int(history[-1]["step"]) if history else 0,
        seconds=sum(float(entry.get("seconds", math.nan)) for entry in history) if history else math.nan,
        validation_counts=counts["validation"],
        test_counts=counts["test"],
        history=history,
        embeddings=test.embeddings if test else None,
        validation=validation.predictions if validation else None,
        test=test.predictions if test else None,
        provenance=either.provenance if either else None,
    )
    title = stored.get("method", {}).get("title", config.method)
    return Found(folder, stored, name, tabulate([result], classes, titles={config.method: title}), notes)


def _counts(said: Predictions, number: int) -> np.ndarray:
    counts = np.zeros((number, number), np.int64)
    known = said.labels < number  # of classes that were never trained nothing can be right
    np.add.at(counts, (said.labels[known], said.top_classes[known, 0]), 1)
    return counts


def _history(folder: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        console.warn(f"{folder / 'metrics.jsonl'} cannot be read: the page has no learning curves")
        return []


def _joined(founds: Sequence[Found]) -> Found:
    """Several folders as one table: the first method of each, the first folder the baseline.

    Raises:
      UserError: they are of other images or classes.
    """
    first = founds[0]
    titles, kept = {}, []
    for place, found in enumerate(founds):
        method = next(iter(found.table.runs)) if len(found.table.runs) == 1 else "cdml"
        if method not in found.table.runs:
            raise UserError(
                f"{found.folder} is a table; of tables without cdml name the runs that are compared, such as "
                f"{found.folder / 'runs'}/METHOD-seed0"
            )
        letter = chr(ord("A") + place)
        for seed, result in found.table.runs[method].items():
            single = len(found.table.runs[method]) == 1
            titles[letter] = f"{letter}: {found.table.titles[method]}, {found.folder.name}"
            kept.append(_moved(result, letter, 0 if single else seed, first, found))
    table = tabulate(kept, first.table.classes, titles=titles, baseline="A")
    notes = [note for found in founds for note in found.notes]
    return dataclasses.replace(first, table=table, notes=notes)


def _moved(result: RunResult, letter: str, seed: int, first: Found, found: Found) -> RunResult:
    """A result as of the first folder's classes and images, in their order."""
    changed: dict[str, Any] = {"method": letter, "seed": seed}
    number = first.table.classes.number
    for split in _SPLITS:
        said, reference = getattr(result, split), getattr(first.table.results[0], split)
        if said is None or reference is None:
            changed |= {split: None, f"{split}_counts": np.zeros((number, number), np.int64)}
            continue
        try:
            theirs = aligned(reference, said, first.table.classes, found.table.classes)
        except UserError as error:
            raise UserError(
                f"{first.folder} and {found.folder} cannot be compared on {split} images: {error}"
            ) from error
        changed |= {split: theirs, f"{split}_counts": _counts(theirs, number)}
    return dataclasses.replace(result, **changed)


def opener(
    stored: Mapping[str, Any], changes: Mapping[str, str], dataset: Dataset | None = None
) -> Open | None:
    """What opens an image of a run's data set by its name; None, with a warning, where the set is gone."""
    if dataset is not None:
        return _by_name(dataset)
    try:
        config = settings_for_use(stored, changes)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, check=False))
        with console.verbosity(console.Verbosity.QUIET):
            dataset = load_dataset(config)
    except UserError as error:
        console.warn(f"the page has no pictures of the images: {error}")
        return None
    return _by_name(dataset)


def _by_name(dataset: Dataset) -> Open:
    places = {
        source.name(index): (source, index)
        for source in dataset.splits.values()
        for index in range(len(source))
    }

    def open_image(name: str) -> bytes | np.ndarray:
        if name not in places:
            raise UserError(f"{name}: is not in the data set any more")
        source, index = places[name]
        return source.image(index)

    return open_image
