"""Answers, classes, pairs and suspects as comma-separated values, which programs and spreadsheets read.

A table's test images are written; `split` is what they are called, since a page may show others as such.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np
from etils.epath import Path

from cdml_jax.confusion.figures import class_figures
from cdml_jax.reporting.pairs import call_rates, taken_for
from cdml_jax.reporting.suspects import Suspect
from cdml_jax.reporting.table import Table
from cdml_jax.system.files import write_text, writing

PREDICTIONS, CLASSES, PAIRS, SUSPECTS = "predictions.csv", "classes.csv", "pairs.csv", "suspects.csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_TOP, _FEW = 5, 8


def cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula: an apostrophe goes in front of such a one.

    >>> cell("=1+1"), cell("wren")
    ("'=1+1", 'wren')

    Source: OWASP, "CSV Injection".
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def written(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, ready: bool = False
) -> Path:
    """Write rows as a file of comma-separated values, whole or not at all; returns the path.

    Texts pass through `cell`; numbers that are not finite and None become empty cells. Rows that are `ready`
    are written as they are.

    Raises:
      UserError: it cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows if ready else ([_shown(value) for value in row] for row in rows))
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Names of files need not be text.
    write_text(path, table.getvalue().encode(errors="surrogateescape").decode(errors="replace"))
    return path


def _shown(value: object) -> object:
    if isinstance(value, str):
        return cell(value)
    if isinstance(value, float | np.floating):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value


def write_predictions(table: Table, split: str, folder: Path) -> Path | None:
    """predictions.csv: a row for each image of a split and each run; None where no run kept its answers.

    Of more than `_FEW` runs it has the likeliest class alone, else the five likeliest.
    """
    names, most = [cell(name) for name in table.classes.names], _TOP if len(table.results) <= _FEW else 1

    # Millions of cells: each name is made harmless once, each number is written once.
    files: dict[tuple[str, ...], list[str]] = {}

    def rows() -> Iterable[Sequence[object]]:
        for result in table.results:
            said = result.test
            if said is None:
                continue
            images = files.setdefault(said.names, [cell(name) for name in said.names])
            top_classes, shares = said.top_classes[:, :most], said.top_probabilities[:, :most]
            blank = [""] * (2 * (most - top_classes.shape[1]))
            rights = (top_classes[:, 0] == said.labels).astype(int).tolist()
            owns = [f"{own:.6g}" if own == own else "" for own in said.true_probability.tolist()]
            columns = (said.labels.tolist(), rights, owns, top_classes.tolist(), shares.tolist())
            for image, label, right, own, top, parts in zip(images, *columns):
                row = [result.method, result.seed, split, image, names[label], right, own]
                for called, part in zip(top, parts):
                    row += names[called], f"{part:.6g}"
                yield row + blank

    answers = [
        column for place in range(1, most + 1) for column in (f"class_{place}", f"probability_{place}")
    ]
    header = ["method", "seed", "split", "image", "class", "right", "class_probability", *answers]
    if all(result.test is None for result in table.results):
        return None
    return written(folder / PREDICTIONS, header, rows(), ready=True)


def write_classes(table: Table, split: str, folder: Path) -> Path:
    """classes.csv: a row for each method and class: images, called, precision, recall, F1, taken for."""
    classes = table.classes
    known = zip(classes.families or (), [classes.family_names or ()] * classes.number)
    families = [names[family] for family, names in known] or [""] * classes.number

    def rows() -> Iterable[Sequence[object]]:
        for method, runs in table.runs.items():
            counts = table.counts(method)
            figures, called = class_figures(counts), counts.sum(axis=0)
            for place, (name, taken) in enumerate(zip(classes.names, taken_for(counts))):
                yield [
                    method,
                    len(runs),
                    split,
                    name,
                    families[place],
                    int(figures.support[place]),
                    int(called[place]),
                    int(counts[place, place]),
                    figures.precision[place],
                    figures.recall[place],
                    figures.f1[place],
                    classes.names[taken[0]] if taken else "",
                    taken[1] if taken else 0,
                ]

    header = ["method", "seeds", "split", "class", "family", "images", "called", "right", "precision"]
    return written(folder / CLASSES, [*header, "recall", "f1", "taken_for", "taken_for_images"], rows())


def write_pairs(table: Table, split: str, folder: Path) -> Path:
    """pairs.csv: a row for each method and pair of classes that it confuses, the largest share first."""
    names = table.classes.names

    def rows() -> Iterable[Sequence[object]]:
        for method, runs in table.runs.items():
            counts = table.counts(method)
            rates = call_rates(counts)
            wrong = counts.copy()
            np.fill_diagonal(wrong, 0)
            places = np.argwhere(wrong)
            order = np.lexsort((places[:, 1], places[:, 0], -rates[tuple(places.T)]))
            sizes = counts.sum(axis=1)
            for i, j in places[order].tolist():
                share = float(rates[i, j])
                yield [method, len(runs), split, names[i], names[j], int(counts[i, j]), int(sizes[i]), share]

    header = ["method", "seeds", "split", "class", "called", "number", "images", "share"]
    return written(folder / PAIRS, header, rows())


def write_suspects(
    found: Iterable[tuple[str, str, int, Suspect]],
    copies: Iterable[Sequence[tuple[str, str, str]]],
    names: Sequence[str],
    folder: Path,
) -> Path:
    """suspects.csv: labels that may be wrong, by how sure models are of it, then groups of equal images.

    Args:
      found: split, name and label of each suspected image, with what is suspected.
      copies: of each group of images that are nearly equal: split, name and class of each.
      names: of the classes.
      folder: where the file goes.
    """
    rows: list[Sequence[object]] = [
        ["label", split, name, names[label], names[suspect.suggested], suspect.own, suspect.other, None]
        for split, name, label, suspect in found
    ]
    for number, group in enumerate(copies, 1):
        rows += [["copy", split, name, own, "", None, None, number] for split, name, own in group]
    header = ["kind", "split", "image", "class", "suggested", "class_probability", "suggested_probability"]
    return written(folder / SUSPECTS, [*header, "group_of_copies"], rows)
