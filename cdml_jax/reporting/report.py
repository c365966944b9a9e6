"""The report of a `reproduce` run: one Markdown page with its tables and pictures, and its lines as data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils.epath import Path

from cdml_jax.confusion.figures import (
    accuracy,
    class_error,
    confusion_inside_families,
    family_accuracy,
    kinship,
)
from cdml_jax.reporting import drawing
from cdml_jax.reporting import paper as published
from cdml_jax.reporting.comparison import compare, verdict
from cdml_jax.reporting.further import further_table
from cdml_jax.reporting.markdown import code_block, markdown_table, plain_text, settings_table
from cdml_jax.reporting.pairs import confused_pairs, confused_subcategories
from cdml_jax.reporting.provenance import differences
from cdml_jax.reporting.results import write_rows
from cdml_jax.reporting.table import Table
from cdml_jax.reporting.tables import answers_table, embeddings_table, methods_table
from cdml_jax.system import console
from cdml_jax.system.files import write_text

_NUMBER = 20  # subcategories in the paper's figure
_CHOICE = (
    "Chosen by the baseline's confusion on held-out images, seeds summed; the bars are rates on the "
    "test split, which has no say in the choice: choosing its worst subcategories would make any second "
    "method look better, by regression to the mean."
)
_PAIRS_CAPTION = (
    "The pairs that the baseline confuses most on held-out images, and how often each method confuses "
    "them on the test split: per cent of the first class's images called the second, mean over seeds, and in "
    "brackets how many of how many, all seeds together."
)


class Report(NamedTuple):
    """What the command line prints: the tables, and where everything was written."""

    table: str
    answers: str
    embeddings: str
    paths: list[Path]


def write_report(
    table: Table,
    folder: str | Path,
    *,
    dataset_name: str,
    command: str,
    settings: Mapping[str, Any],
    draw: bool = True,
    costs: np.ndarray | None = None,
) -> Report:
    """Write rows.json, rows.csv and report.md; then the pictures, and report.md with them.

    A picture that cannot be drawn is left out with a warning. Where the data set is the paper's, the paper's
    figures stand next to ours.

    Args:
      table: results of the methods and seeds at hand; any method may be missing, the baseline too.
      folder: where the files go; made if missing.
      dataset_name: the data set's name.
      command: the command that repeats the run.
      settings: what the run was configured with; may be nested.
      draw: False ends before the pictures.
      costs: (C, C) of each confusion, for the expected cost of answers; None leaves that out.

    Returns:
      The tables of methods, of their answers and of their embeddings, and the paths written, report.md first.

    Raises:
      ValueError: no results.
      UserError: the folder cannot be written.
    """
    folder = Path(folder)
    if not table.runs:
        raise ValueError("there are no results to report")
    data = write_rows(table.results, folder)
    is_papers = dataset_name == published.DATASET
    methods = methods_table(table, paper=published.TABLE_2 if is_papers else None)
    answers, embeddings = answers_table(table, costs), embeddings_table(table)
    before = [
        f"# Cost-sensitive deep metric learning on {plain_text(dataset_name)}",
        f"Data set: {plain_text(dataset_name)}, {table.classes.number} classes. To repeat it:",
        code_block(command),
        "## Results",
        methods,
        *_verdicts(table),
        *(["## Each method against the baseline", further] if (further := further_table(table)) else ()),
        *(_paper(table) if is_papers else ()),
        "## Answers",
        answers,
        "## Embeddings",
        embeddings,
    ]
    after = ["## Settings", settings_table(settings), *_provenance(table)]
    page = folder / "report.md"

    def write(pictures: Mapping[str, Path]) -> None:
        parts = [*before, *_subcategories(table, pictures), *_confusions(table, pictures), *_families(table)]
        if "learning_curves" in pictures:
            parts += ["## Learning curves", _picture(pictures["learning_curves"], "learning curves")]
        write_text(page, "\n\n".join(part.strip("\n") for part in [*parts, *after]) + "\n")

    # Whatever ends the drawing, the tables are there.
    write({})
    pictures = _pictures(table, folder) if draw else {}
    if pictures:
        write(pictures)
    return Report(
        methods,
        answers,
        embeddings,
        [page, *data, *(f for p in pictures.values() for f in (p, p.with_suffix(".svg")))],
    )


def _pictures(table: Table, folder: Path) -> dict[str, Path]:
    """The pictures that could be drawn, by name."""
    left_out = drawing.why_not()
    if left_out:
        console.warn(left_out)
        return {}
    pictures = {}
    with drawing.surviving("the report's pictures"):
        drawing.warn_of_glyphs(table.classes, table.titles.values())
        for name, draw in _drawings(table).items():
            path = drawing.attempt(folder / f"{name}.png", draw)
            if path is not None:
                pictures[name] = path
    return pictures


def _drawings(table: Table) -> dict[str, Callable[[Path], object]]:
    """What draws each picture that the table gives reason for."""
    from cdml_jax.reporting import figures, matrices  # here: they load matplotlib

    drawings: dict[str, Callable[[Path], object]] = {}
    if table.has_baseline and len(confused_subcategories(table)):
        drawings["misclassification"] = functools.partial(
            figures.misclassification_figure, table, number=_NUMBER, vector=True
        )
    first = _first(table)
    panels = {
        table.titles[method]: table.counts(method)
        for method in dict.fromkeys((first, "cdml"))
        if method in table.runs
    }
    alone = {f"{table.titles[first]}, test images": table.counts(first)}
    drawings["confusion"] = functools.partial(matrices.confusion_figure, alone, table.classes, vector=True)
    if len(panels) > 1:
        drawings["confusion_compared"] = functools.partial(
            matrices.confusion_figure, panels, table.classes, vector=True
        )
    if any(result.history for result in table.results):
        drawings["learning_curves"] = functools.partial(figures.learning_curves, table, vector=True)
    return drawings


def _first(table: Table) -> str:
    """The method whose confusion is shown: the baseline if it was run."""
    return table.baseline if table.has_baseline else next(iter(table.runs))


def _paper(table: Table) -> list[str]:
    cdml = [100.0 * accuracy(run.test_counts) for run in table.runs.get("cdml", {}).values()]
    return [
        f"The paper's first table, with ours next to it ({published.SOURCE}):",
        published.paper_table_1(float(np.mean(cdml)) if cdml else None),
    ]


def _verdicts(table: Table) -> list[str]:
    if not table.has_baseline:
        return ["The baseline was not run, so no method can be compared with it."]
    lines = [f"- {verdict(compare(table, method), title)}" for method, title in table.compared.items()]
    return ["\n".join(lines)] if lines else []


def _subcategories(table: Table, pictures: Mapping[str, Path]) -> list[str]:
    if "misclassification" not in pictures:
        return []
    counts = table.counts(table.baseline, "validation")
    sizes = counts.sum(axis=1)
    wrong, rates = sizes - np.diagonal(counts), class_error(counts)
    chosen = confused_subcategories(table, _NUMBER)
    names = ", ".join(
        f"{plain_text(table.classes.names[i])} ({100 * rates[i]:.0f} %: {wrong[i]} of {sizes[i]})"
        for i in chosen
    )
    return [
        f"## Misclassification of the {len(chosen)} most confused subcategories",
        _picture(pictures["misclassification"], "misclassification rates of the most confused subcategories"),
        _CHOICE,
        f"With the validation rates that chose them: {names}.",
    ]


def _confusions(table: Table, pictures: Mapping[str, Path]) -> list[str]:
    first = table.titles[_first(table)]
    shown = {
        "confusion": f"confusion matrix of {plain_text(first)}",
        "confusion_compared": f"confusion of {plain_text(first)} and "
        f"{plain_text(table.titles.get('cdml', ''))}",
    }
    parts = [_picture(pictures[name], words) for name, words in shown.items() if name in pictures]
    pairs = confused_pairs(table)
    if pairs:
        # Every seed sees the same test images, so the rates of the sums are the means of the rates.
        counts = {method: table.counts(method) for method in table.titles}
        lines = [
            [
                plain_text(table.classes.names[pair.true]),
                plain_text(table.classes.names[pair.called]),
                _of(pair.number, pair.images),
                *(_of(each[pair.true, pair.called], each[pair.true].sum()) for each in counts.values()),
            ]
            for pair in pairs
        ]
        header = ["images of", "called", "validation, baseline", *table.titles.values()]
        parts += [_PAIRS_CAPTION, markdown_table(header, lines, "ll" + "r" * (len(header) - 2))]
    return ["## Confusion", *parts] if parts else []


def _families(table: Table) -> list[str]:
    families = table.classes.families
    if families is None:
        return []
    lines = []
    kin = kinship(families)
    for method, title in table.titles.items():
        counts = [run.test_counts for run in table.runs[method].values()]
        added = table.counts(method)
        images, right, inside = added.sum(), np.trace(added), added[kin].sum()
        lines.append(
            [
                title,
                _percent(_mean([confusion_inside_families(one, families) for one in counts]))
                + f" ({inside - right:,} of {images - right:,})",
                _percent(_mean([family_accuracy(one, families) for one in counts]))
                + f" ({inside:,} of {images:,})",
            ]
        )
    # Chance weighs a class by its share of the wrong answers given.
    chance = []
    siblings = kin.sum(axis=1) - 1
    for result in table.results:
        wrong = result.test_counts.sum(axis=1) - np.diagonal(result.test_counts)
        if wrong.sum():
            chance.append(float((wrong * siblings).sum() / wrong.sum() / (len(siblings) - 1)))
    caption = (
        "Test images, mean over seeds, in brackets all seeds together. Wrong answers spread evenly over all "
        f"other classes would fall inside the family in {_percent(_mean(chance))} % of the cases."
    )
    return [
        "## Confusion inside families",
        markdown_table(["method", "wrong answers inside the family, %", "right family, %"], lines, "lrr"),
        caption,
    ]


def _provenance(table: Table) -> list[str]:
    """Which versions and devices made the results, and when; nothing where it is not known."""
    made: dict[tuple[str, str], list[str]] = {}
    for result in table.results:
        if result.provenance is not None:
            origin = result.provenance
            made.setdefault((origin.machine, origin.software), []).append(origin.date)
    differ = differences(result.provenance for result in table.results)
    lines = [f"The runs were not all made alike: {differ}."] if differ else []
    for (machine, software), dates in made.items():
        runs = "1 run" if len(dates) == 1 else f"{len(dates)} runs"
        lines.append(f"{runs} on {machine}, {min(dates)} to {max(dates)}, by {software}.")
    return ["## Made by", *lines] if lines else []


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _of(count: int, images: int) -> str:
    """A share in per cent, and of how many."""
    return f"{_percent(count / images)} ({count:,} of {images:,})" if images else "–"


def _picture(path: Path, words: str) -> str:
    """A picture of the page's own folder, in Markdown."""
    return f"![{words}]({path.name})"
