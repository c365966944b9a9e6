"""Two trained runs on the same images of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from etils.epath import Path

from cdml_jax.cli.actions.outcome import predictions_of
from cdml_jax.cli.actions.running import NO_CHANGES, prepare, refuse_trained_on, settings_for_use
from cdml_jax.configuration import keys
from cdml_jax.configuration.settings import from_plain
from cdml_jax.data.classes import Classes
from cdml_jax.distributed import processes
from cdml_jax.errors import UserError
from cdml_jax.reporting import results
from cdml_jax.reporting.paired import Paired, aligned, compare_predictions, report
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.runs import class_names, workdir
from cdml_jax.runs.evaluation import evaluate_split
from cdml_jax.runs.trained_weights import restore_for_evaluation
from cdml_jax.system import console
from cdml_jax.system.files import absolute


class _Seen(NamedTuple):
    """What a run said of the images of a split, and the digest of their contents, where it is known."""

    predictions: Predictions
    classes: Classes
    contents: str
    title: str


@processes.joined()
def compare(folder_a: Path, folder_b: Path, split: str, changes: Mapping[str, str] = NO_CHANGES) -> Paired:
    """Compare two trained runs on a split and print what the same images show.

    A run of a table kept what it said of each image; a run of `cdml train` is evaluated.

    Args:
      folder_a, folder_b: workdirs of `cdml train`, or of single runs of `cdml reproduce`.
      split: "validation" or "test".
      changes: text by dotted keys that say where things of both are now, such as `source`.

    Raises:
      UserError: one of them holds no such run or has no such split, or they are of other images.
    """
    a, b = (_seen(folder, split, changes) for folder in (folder_a, folder_b))
    try:
        theirs = aligned(a.predictions, b.predictions, a.classes, b.classes)
        if a.contents and b.contents and a.contents != b.contents:
            raise UserError("their images have the same names and other contents")
        if not theirs.names:
            raise UserError("there is no image to compare them on")
    except UserError as error:
        raise UserError(f"{folder_a} and {folder_b} cannot be compared on {split} images: {error}") from error
    found = compare_predictions(
        a.predictions.labels, a.predictions.top_classes[:, 0], theirs.top_classes[:, 0]
    )
    console.result(f"{split}: A is {a.title}, {folder_a}; B is {b.title}, {folder_b}")
    console.result(report(found, a.classes))
    return found


def _seen(folder: Path, split: str, changes: Mapping[str, str]) -> _Seen:
    """What a run said of a split: as its table kept it, else by evaluation."""
    stored = workdir.read_trained(folder)
    refuse_trained_on(stored, folder, split)
    config = from_plain(keys.overridden(stored["config"], changes))
    title = f"{stored.get('method', {}).get('title', config.method)}, seed {config.seed}"
    table = absolute(folder).parent.parent
    kept = table / "results" / f"{folder.name}.npz"
    if kept.is_file() and (table / "config.json").is_file():
        predictions = getattr(results.load_one(kept), split)
        if predictions is not None:
            _, classes = class_names.read(folder)
            return _Seen(predictions, classes, stored.get("contents", {}).get(split, ""), title)
    program = prepare("train", settings_for_use(stored, changes), folder, split, stored=stored)
    dataset = program.dataset
    if split == "test" and dataset.test_class_names is not None:
        raise UserError(
            f"--split: no class of the test images of {folder} was trained (data.class_disjoint), so no "
            "answer is right; choose validation"
        )
    state, epoch = restore_for_evaluation(folder, program)
    if epoch < config.epochs:
        console.say(f"The run in {folder} stands at epoch {epoch} of {config.epochs}.")
    seen = evaluate_split(program, state, split)
    predictions = predictions_of(program, split, seen, keep=False)
    return _Seen(predictions, dataset.classes, dataset.contents.get(split, ""), title)
