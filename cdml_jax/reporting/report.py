"""The report of a `reproduce` run: one Markdown page with its tables and pictures, and the rows as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cdml_jax.confusion.figures import (
    accuracy,
    class_error,
    confusion_inside_families,
    family_accuracy,
    kinship,
)
from cdml_jax.errors import writing
from cdml_jax.reporting import figures
from cdml_jax.reporting import paper as published
from cdml_jax.reporting.comparison import compare, verdict
from cdml_jax.reporting.matrices import call_rates
from cdml_jax.reporting.pairs import confused_pairs
from cdml_jax.reporting.results import RunResult, by_row, write_rows
from cdml_jax.reporting.tables import embeddings_table, markdown_table, methods_table, ordered_rows

_NUMBER = 20  # subcategories in the paper's figure
_CHOICE = (
    "Chosen by the baseline's confusion on held-out images, seeds summed; the bars are rates on the "
    "test split, which has no say in the choice: choosing its worst subcategories would make any second "
    "method look better, by regression to the mean."
)
_PAIRS_CAPTION = (
    "The pairs that the baseline confuses most on held-out images, and how often each row confuses "
    "them on the test split: per cent of the first class's images called the second, mean over seeds."
)


class Report(NamedTuple):
    """What the command line prints: the two tables, and where everything was written."""

    table: str
    embeddings: str
    paths: list[Path]


def write_report(
    results: Iterable[RunResult],
    *,
    folder: str | Path,
    title: str,
    class_names: Sequence[str],
    families: Sequence[int] | np.ndarray | None,
    family_names: Sequence[str] | None,
    row_titles: Mapping[str, str],
    command: str,
    settings: Mapping[str, Any],
    dataset_name: str,
    paper: Mapping[str, float] | None = None,
) -> Report:
    """Write report.md, rows.json, rows.csv and the pictures.

    Args:
      results: results of the rows and seeds at hand; any row may be missing, the baseline too.
      folder: where the files go; made if missing.
      title: heading of the page.
      class_names: (C,) names.
      families: (C,) integers, the family of every class; None where classes have no kinship.
      family_names: name of family k at [k]; None leaves the families nameless.
      row_titles: row -> name to print; also the order of the rows.
      command: the command that repeats the run.
      settings: what the run was configured with; may be nested.
      dataset_name: the data set's name.
      paper: row -> the paper's top-1 %, only where the data set is the paper's; adds the paper's first table.

    Returns:
      The tables of methods and of their embeddings, and the paths written, report.md first.

    Raises:
      ValueError: no results, a row and seed twice, or names that do not match the number of classes.
      UserError: the folder cannot be written.
    """
    results, folder = list(results), Path(folder)
    if not results:
        raise ValueError("there are no results to report")
    classes = len(results[0].test_counts)
    for name, values in (("class_names", class_names), ("families", families)):
        if values is not None and len(values) != classes:
            raise ValueError(f"{name} has {len(values)} entries for {classes} classes")
    rows = by_row(results)
    titles = ordered_rows(rows, row_titles)
    results = [result for row in titles for result in rows[row].values()]

    table = methods_table(results, row_titles=row_titles, paper=paper)
    embeddings = embeddings_table(results, row_titles=row_titles)
    with writing(folder):
        pictures = _pictures(results, folder, class_names, families, family_names, titles)
    parts = [
        f"# {title}",
        f"Data set: {dataset_name}, {classes} classes. To repeat it:",
        f"```\n{command}\n```",
        "## Results",
        table,
        *_verdicts(results, titles),
    ]
    if paper:
        cdml = [100.0 * accuracy(run.test_counts) for run in rows.get("cdml", {}).values()]
        ours = float(np.mean(cdml)) if cdml else None
        parts += [
            f"The paper's first table, with ours beside it ({published.SOURCE}):",
            published.paper_table_1(ours, dataset_name=dataset_name),
        ]
    parts += ["## Embeddings", embeddings]
    parts += _subcategories(results, class_names, pictures)
    parts += _confusions(results, class_names, titles, pictures)
    if families is not None:
        parts += _families(results, families, titles)
    if "learning_curves" in pictures:
        parts += ["## Learning curves", _embed(pictures["learning_curves"], "learning curves")]
    parts += ["## Settings", _settings_table(settings)]
    page = folder / "report.md"
    with writing(folder):
        data = write_rows(results, folder)
        page.write_text("\n\n".join(part.strip("\n") for part in parts) + "\n", encoding="utf-8")
    return Report(table, embeddings, [page, *data, *pictures.values()])


def _pictures(
    results: Sequence[RunResult],
    folder: Path,
    class_names: Sequence[str],
    families: Sequence[int] | np.ndarray | None,
    family_names: Sequence[str] | None,
    titles: Mapping[str, str],
) -> dict[str, Path]:
    rows = by_row(results)
    names = (class_names, families, family_names)
    pictures = {}
    if "baseline" in rows and len(figures.confused_subcategories(results)):
        path = folder / "misclassification.png"
        pictures["misclassification"] = figures.misclassification_figure(
            results, class_names, path, number=_NUMBER, row_titles=titles
        )
    first = "baseline" if "baseline" in rows else next(iter(rows))
    panels = {
        titles[row]: figures.sum_counts(rows[row].values())
        for row in dict.fromkeys((first, "cdml"))
        if row in rows
    }
    pictures["confusion"] = figures.confusion_figure(
        panels[titles[first]], *names, folder / "confusion.png", title=f"{titles[first]}, test images"
    )
    if len(panels) > 1:
        pictures["confusion_compared"] = figures.confusion_comparison_figure(
            panels, *names, folder / "confusion_compared.png"
        )
    if any(result.history for result in results):
        path = folder / "learning_curves.png"
        pictures["learning_curves"] = figures.learning_curves(results, path, row_titles=titles)
    return pictures


def _verdicts(results: Sequence[RunResult], titles: Mapping[str, str]) -> list[str]:
    if "baseline" not in titles:
        return ["The baseline was not run, so no row can be compared with it."]
    lines = [
        f"- {verdict(compare(results, row), title)}" for row, title in titles.items() if row != "baseline"
    ]
    return ["\n".join(lines)] if lines else []


def _subcategories(
    results: Sequence[RunResult], class_names: Sequence[str], pictures: Mapping[str, Path]
) -> list[str]:
    if "misclassification" not in pictures:
        return []
    rates = class_error(figures.sum_counts(by_row(results)["baseline"].values(), "validation_counts"))
    chosen = figures.confused_subcategories(results, _NUMBER)
    names = ", ".join(f"{_text(class_names[i])} ({100 * rates[i]:.0f} %)" for i in chosen)
    return [
        f"## Misclassification of the {len(chosen)} most confused subcategories",
        _embed(pictures["misclassification"], "misclassification rates of the most confused subcategories"),
        _CHOICE,
        f"With the validation rates that chose them: {names}.",
    ]


def _confusions(
    results: Sequence[RunResult],
    class_names: Sequence[str],
    titles: Mapping[str, str],
    pictures: Mapping[str, Path],
) -> list[str]:
    first = titles.get("baseline", next(iter(titles.values())))
    parts = ["## Confusion", _embed(pictures["confusion"], f"confusion matrix of {first}")]
    if "confusion_compared" in pictures:
        both = f"confusion of {first} and {titles['cdml']} side by side"
        parts.append(_embed(pictures["confusion_compared"], both))
    pairs = confused_pairs(results)
    if not pairs:
        return parts
    # Every seed sees the same test images, so the rates of the sums are the means of the rates.
    shares = {row: call_rates(figures.sum_counts(runs.values())) for row, runs in by_row(results).items()}
    lines = [
        [
            _text(class_names[pair.true]),
            _text(class_names[pair.called]),
            _percent(pair.rate),
            *(_percent(shares[row][pair.true, pair.called]) for row in titles),
        ]
        for pair in pairs
    ]
    header = ["images of", "called", "validation, baseline", *titles.values()]
    parts += [
        _PAIRS_CAPTION,
        markdown_table(header, lines, "ll" + "r" * (len(header) - 2)),
    ]
    return parts


def _families(
    results: Sequence[RunResult], families: Sequence[int] | np.ndarray, titles: Mapping[str, str]
) -> list[str]:
    rows = by_row(results)
    lines = []
    for row, title in titles.items():
        counts = [run.test_counts for run in rows[row].values()]
        lines.append(
            [
                title,
                _percent(_mean([confusion_inside_families(one, families) for one in counts])),
                _percent(_mean([family_accuracy(one, families) for one in counts])),
            ]
        )
    # Chance weighs a class by its share of the wrong answers given.
    chance = []
    siblings = kinship(families).sum(axis=1) - 1
    for result in results:
        wrong = result.test_counts.sum(axis=1) - np.diagonal(result.test_counts)
        if wrong.sum():
            chance.append(float((wrong * siblings).sum() / wrong.sum() / (len(siblings) - 1)))
    caption = (
        "Test images, mean over seeds. Wrong answers spread evenly over all other classes would fall inside "
        f"the family in {_percent(_mean(chance))} % of the cases."
    )
    return [
        "## Confusion inside families",
        markdown_table(["method", "wrong answers inside the family, %", "right family, %"], lines, "lrr"),
        caption,
    ]


def _settings_table(settings: Mapping[str, Any]) -> str:
    lines = [[key, "" if value is None else str(value)] for key, value in _flat(settings)]
    return markdown_table(["setting", "value"], lines, "ll") if lines else "None recorded."


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _text(name: str) -> str:
    """A name as plain Markdown text."""
    return "".join("\\" + letter if letter in "\\`*_[]<>#" else letter for letter in name)


def _embed(path: Path, words: str) -> str:
    return f"![{words}]({path.name})"
