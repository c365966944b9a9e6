"""What stands on the page as text: the verdict, the table of methods, where results come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from cdml_jax.configuration.keys import flat
from cdml_jax.confusion.figures import accuracy, mean_class_error
from cdml_jax.reporting import answers
from cdml_jax.reporting.card import figures_of
from cdml_jax.reporting.comparison import FEWEST, compare, verdict
from cdml_jax.reporting.page.shown import Shown
from cdml_jax.reporting.paired import compare_predictions, images_verdict
from cdml_jax.reporting.provenance import differences
from cdml_jax.reporting.tables import difference_cell, map_at_r, recall_at_1, spread, spread_of


def headline(shown: Shown) -> list[str]:
    """The verdict in a sentence or two: what is better, how good it is, what is confused with what."""
    if shown.epochs_alone:
        return ["No image has been evaluated yet: `cdml evaluate` does it, and writes this page again."]
    table, lines = shown.table, []
    for method in dict.fromkeys(("cdml", *table.compared)):
        if method in table.compared:
            title = table.titles[method]
            against = table.titles[table.baseline]
            lines.append(
                _over_images(shown, method)
                or verdict(compare(table, method), title, baseline_title=f"{against.lower()}")
            )
            lines += _clear_too(shown, method)
            break
    first = shown.first
    figures = figures_of(shown.counts(first), 0)
    if figures is not None:
        low, high = figures.interval
        seeds = len(table.runs[first])
        over = f" in {seeds} trainings" if seeds > 1 else ""
        each = f"{figures.images // seeds:,} {shown.split} images"
        interval = f" [95 % interval over images {low:.1%} to {high:.1%}]" if seeds == 1 else ""
        lines.append(
            f"{table.titles[first]}: {figures.correct / figures.images:.2%} of {each} are called rightly"
            f"{over}{interval}."
        )
    worst = shown.worst()
    if worst is not None:
        names, seeds = shown.classes.names, len(table.runs[first])
        each = f" ({worst.images // seeds:,} images in each of {seeds} seeds)" if seeds > 1 else ""
        lines.append(
            f"Confused most on the {shown.split} images: {names[worst.true]} is called {names[worst.called]} "
            f"by {table.titles[first]}, {worst.number:,} of {worst.images:,} times{each}."
        )
    return lines


def _clear_too(shown: Shown, said: str) -> list[str]:
    """A line about the other methods whose interval is clear of zero, either way, if there are any."""
    found = [compare(shown.table, method) for method in shown.table.compared if method != said]
    clear = [c for c in found if c.seeds and not c.no_interval and (c.low > 0.0 or c.high < 0.0)]
    if not clear:
        return []
    each = [
        f"{shown.table.titles[c.method]} {difference_cell(c)} over {len(c.seeds)} seeds, "
        f"{'better' if c.low > 0.0 else 'worse'}"
        for c in clear
    ]
    others = (
        f"Of the {len(found)} other methods, each taken alone," if len(found) > 1 else "The other method is"
    )
    return [f"{others} clear of zero: {'; '.join(each)}."]


def _over_images(shown: Shown, method: str) -> str:
    """Two single runs on the same images, compared image by image; "" for several seeds."""
    pairs = shown.table.pairs(method)
    if len(pairs) != 1:
        return ""
    ours, theirs = next(iter(pairs.values()))
    if ours.test is None or theirs.test is None:
        return ""
    found = compare_predictions(
        theirs.test.labels, theirs.test.top_classes[:, 0], ours.test.top_classes[:, 0]
    )
    said = images_verdict(found)
    return (
        f"A is {shown.table.titles[shown.table.baseline]}, B is {shown.table.titles[method]}. B - A: "
        f"{found.difference:+.2f} points [{found.low:+.2f}, {found.high:+.2f}] over {found.images:,} images: "
        f"A alone is right on {found.only_a:,}, B alone on {found.only_b:,}. {said}"
    )


def methods_rows(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of methods; figures that nothing has are left out."""
    table, columns = shown.table, {}
    titles = table.titles

    def column(name: str, cells: dict[str, str]) -> None:
        if any(cell not in ("–", "nan") for cell in cells.values()):
            columns[name] = cells

    def of(figure: Any) -> dict[str, str]:
        return {m: spread_of(list(table.runs[m].values()), figure) for m in titles}

    def gain(figure: Any) -> dict[str, str]:
        found = {m: compare(table, m, figure=figure) for m in table.compared}
        return {m: difference_cell(found[m]) if m in found and found[m].seeds else "–" for m in titles}

    column("top-1 %", of(lambda r: accuracy(r.test_counts)))
    column("difference [95 %]", gain(lambda r: accuracy(r.test_counts)))
    column("seeds", {m: str(len(table.runs[m])) for m in titles})
    column("class error %", of(lambda r: mean_class_error(r.test_counts)))
    column("top-5 %", of(answers.top_5))
    column("macro F1 %", of(answers.macro_f1))
    column("calibration error %", of(answers.calibration))
    column("Recall@1 %", of(recall_at_1))
    column("mAP@R %", of(map_at_r))
    column("steps", {m: _range([r.steps for r in table.runs[m].values()]) for m in titles})
    column("minutes", {m: spread([r.seconds / 60 for r in table.runs[m].values()]) for m in titles})
    rows = [[titles[m], *(cells[m] for cells in columns.values())] for m in titles]
    return ["method", *columns], rows


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def captions(shown: Shown) -> list[str]:
    """What the figures of the table of methods are."""
    table = shown.table
    seeds = max(map(len, table.runs.values()))
    lines = [f"Figures are of {shown.split} images."]
    if seeds >= FEWEST:
        lines.append("Mean ± standard deviation over seeds.")
    if table.compared and seeds >= FEWEST:
        lines.append(
            "Differences to the baseline in points, paired by seed, with Student's 95 % interval, not "
            "corrected for the number of methods."
        )
    return lines + _fewer_seeds(shown)


def _fewer_seeds(shown: Shown) -> list[str]:
    """Which methods are compared over other seeds than the baseline's mean is of, and its mean over those."""
    table, groups = shown.table, dict[tuple[int, ...], list[str]]()
    for method, title in table.compared.items():
        common = tuple(table.pairs(method))
        if common and set(common) != set(table.runs[table.baseline]):
            groups.setdefault(common, []).append(title)
    lines = []
    for seeds, titles in groups.items():
        mean = spread([100 * accuracy(table.runs[table.baseline][s].test_counts) for s in seeds])
        have = "has" if len(titles) == 1 else "have"
        lines.append(
            f"{', '.join(titles)} {have} only {len(seeds)} of the baseline's "
            f"{len(table.runs[table.baseline])} seeds ({', '.join(map(str, seeds))}): the difference is over "
            f"these, in which the baseline has {mean} %."
        )
    return lines


def origins(shown: Shown) -> list[str]:
    """Which versions and devices made the results, and when."""
    made: dict[tuple[str, str], list[str]] = {}
    for result in shown.table.results:
        if result.provenance is not None:
            origin = result.provenance
            made.setdefault((origin.machine, origin.software), []).append(origin.date)
    differ = differences(result.provenance for result in shown.table.results)
    lines = [f"The runs were not all made alike: {differ}."] if differ else []
    for (machine, software), dates in made.items():
        runs = "1 run" if len(dates) == 1 else f"{len(dates)} runs"
        lines.append(f"{runs} on {machine}, {min(dates)} to {max(dates)}, by {software}.")
    return lines


def settings_rows(shown: Shown) -> list[tuple[str, str]]:
    """Settings by dotted keys."""
    return [(key, "" if value is None else str(value)) for key, value in flat(shown.settings).items()]


def pairs_note(shown: Shown) -> str:
    """By which images the pairs were chosen."""
    title = shown.table.titles[shown.first]
    if shown.pairs()[1]:
        return (
            f"Chosen and ordered by what {title} confuses on validation images, ties by the other direction, "
            f"not by the {shown.split} images shown: choosing the worst of these would make any second "
            "method look better. So the pair that the verdict names need not come first; it has a card."
        )
    return (
        f"Chosen by what {title} confuses on these same {shown.split} images: a second method looks better "
        "on them than on others, by regression to the mean."
        if len(shown.table.runs) > 1
        else f"By what {title} confuses on the {shown.split} images."
    )


def unseen(shown: Shown) -> str:
    """How many classes have no image in the split; "" where all have."""
    sizes = np.asarray(shown.table.results[0].test_counts).sum(axis=1)
    missing = int((sizes == 0).sum())
    return f"{missing:,} classes have no {shown.split} image." if missing and sizes.any() else ""
