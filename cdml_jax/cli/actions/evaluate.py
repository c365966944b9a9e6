"""Evaluate a trained run on a split."""

from __future__ import annotations

import math
from collections.abc import Mapping

from etils.epath import Path

from cdml_jax.cli.actions.answers import costs_of, keep_evaluation, print_answers
from cdml_jax.cli.actions.cards import add_to_card
from cdml_jax.cli.actions.page import attempt
from cdml_jax.cli.actions.running import NO_CHANGES, prepare, refuse_trained_on, say_next, settings_for_use
from cdml_jax.confusion import Confusion
from cdml_jax.confusion.figures import accuracy, confusion_inside_families, family_accuracy, mean_class_error
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset
from cdml_jax.distributed import processes
from cdml_jax.errors import UserError
from cdml_jax.reporting import drawing
from cdml_jax.reporting.card import figures_of
from cdml_jax.retrieval import clustering
from cdml_jax.runs import calibration, workdir
from cdml_jax.runs.evaluation import Evaluated, evaluate_split, measure
from cdml_jax.runs.trained_weights import restore_for_evaluation
from cdml_jax.system import console

_THRESHOLDS = (0.5, 0.8, 0.95)
_DRAWN = 1000  # classes up to which a picture of the confusion shows anything


@processes.joined()
def evaluate(
    folder: Path,
    split: str,
    changes: Mapping[str, str] = NO_CHANGES,
    *,
    best: bool = False,
    costs: Path | None = None,
) -> Confusion | None:
    """Confusion counts of a trained run on a split; prints its figures and draws the confusion if it can.

    `changes` are text by dotted keys that say where things are now, such as `source`;
    `best` takes the best epoch by validation in place of the last; `costs` is a file of a cost matrix.
    What was said of each image is kept in the folder `evaluated`.
    Where no class of the split was trained (`data.class_disjoint`), only its embeddings are measured.
    """
    stored = workdir.read_trained(folder)
    refuse_trained_on(stored, folder, split)
    config = settings_for_use(stored, changes)
    # A configuration file is not run here: what its method says of the embedding was kept.
    kept = stored.get("method", {})
    if {"title", "embedding"} - kept.keys():
        raise UserError(
            f"--workdir: {folder} does not say how its method is measured: it is of an older version; "
            "train it again"
        )
    program = prepare("train", config, folder, split, stored=stored)
    dataset, disjoint = program.dataset, split == "test" and program.dataset.test_class_names is not None
    matrix = None if disjoint else costs_of(stored["config"]["confusion"]["source"], costs, dataset.classes)
    state, epoch = restore_for_evaluation(folder, program, best=best)
    calibrated = None if disjoint else calibration.read(folder, epoch, best=best)
    if best:
        console.say(f"The best epoch by validation is {epoch} of {config.epochs}.")
    elif epoch < config.epochs:
        console.say(f"The run stands at epoch {epoch} of {config.epochs}.")
    embedding = kept["embedding"]
    temperature = calibrated.temperature if calibrated else None
    seen = evaluate_split(program, state, split, embedding, temperature)
    figures = measure(seen.embeddings, seen.labels, embedding) if processes.is_first() else None
    processes.wait_for_all("measured")
    left_out = clustering.why_not(len(seen.labels))
    if disjoint:
        count = len(dataset.test_class_names or ())
        console.result(f"{split}, {count} classes never trained, {embedding}: {figures}")
    else:
        print_counts(seen.counts, split, dataset.classes)
        print_answers(seen, split, calibrated, matrix)
        print_thresholds(seen)
        if processes.is_first():
            of = f"{split}, best epoch" if best else split
            add_to_card(folder, dataset.classes, of, figures_of(seen.counts, epoch))
            keep_evaluation(folder, program, kept, split, seen, epoch=epoch, best=best, figures=figures)
        console.result(f"embeddings ({embedding}): {figures}")
    if left_out:
        console.result(left_out)
    if figures and figures.warning:
        console.result(figures.warning)
    if not disjoint and processes.is_first():
        show_confusion(seen.counts, f"{kept['title']} on {dataset.name}", split, dataset, folder)
        attempt(folder, split, best=best, changes=changes, dataset=dataset)
    say_next("predict", folder, " IMAGE")
    return None if disjoint else seen.counts


def print_counts(counts: Confusion, split: str, names: Classes) -> None:
    """Accuracy, the mean error of the classes and, where there are families, what stays inside them."""
    errors, correct = (int(images.sum()) for images in counts.errors_and_correct())
    console.result(
        f"{split}: top-1 {accuracy(counts):.2%} ({correct:,} of {correct + errors:,} images), "
        f"mean class error {mean_class_error(counts):.2%}"
    )
    matrix = counts.matrix
    if names.families is not None and matrix is not None:
        inside = confusion_inside_families(matrix, names.families)
        right = family_accuracy(matrix, names.families)
        kin = round(right * (correct + errors)) if correct + errors else 0
        said = f"{inside:.1%} of the errors stay inside the family ({kin - correct:,} of {errors:,})"
        console.result(
            f"right family {right:.2%} ({kin:,} of {correct + errors:,}); "
            f"{'no errors' if math.isnan(inside) else said}"
        )


def print_thresholds(seen: Evaluated) -> None:
    """How many answers are of at least some probabilities, and how many of those are right."""
    if not len(seen.labels):
        return
    probability, right = seen.calibrated_probability, seen.top_classes[:, 0] == seen.labels
    if probability is None:
        probability = seen.top_probabilities[:, 0]
    parts = []
    for threshold in _THRESHOLDS:
        kept = probability >= threshold
        share = f", {right[kept].mean():.1%} of them right" if kept.any() else ""
        parts.append(f"{threshold}: {kept.mean():.1%} of the images{share}")
    console.result(f"answers by --threshold of cdml predict: {'; '.join(parts)}")


def show_confusion(counts: Confusion, title: str, split: str, dataset: Dataset, folder: Path) -> None:
    """The most confused pairs, and a picture of the counts where it would show anything."""
    from cdml_jax.reporting.pairs import confused_pairs_of  # here: training needs no scipy

    names = dataset.classes
    pairs = confused_pairs_of(counts, 5)
    if pairs:
        console.result("Most confused:")
    for pair in pairs:
        true, called = (console.escaped(names.names[label]) for label in (pair.true, pair.called))
        console.result(
            f"  {pair.rate:6.1%} of {true} are called {called} ({pair.number:,} of {pair.images:,})"
        )
    matrix = counts.matrix
    if matrix is None or names.number > _DRAWN:
        return
    left_out = drawing.why_not()
    if left_out:
        console.warn(left_out)
        return

    def draw(path: Path) -> None:
        from cdml_jax.reporting.matrices import confusion_figure  # here: training needs no matplotlib

        drawing.warn_of_glyphs(names, [title])
        confusion_figure({f"{title}, {split} split": matrix}, names, path)

    picture = drawing.attempt(folder / f"confusion_{split}.png", draw)
    if picture is not None:
        console.say(f"Picture: {picture}")
