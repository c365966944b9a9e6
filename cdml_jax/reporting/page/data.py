"""What the page's script draws, as JSON: images, answers, counts, curves."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cdml_jax.confusion.figures import class_figures
from cdml_jax.reporting.colours import colours
from cdml_jax.reporting.comparison import FEWEST, compare
from cdml_jax.reporting.page.drawings import LOOKS, figures
from cdml_jax.reporting.page.shown import ListedSuspect, Picture, Shown
from cdml_jax.reporting.pairs import ConfusedPair, taken_for
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.spreadsheets import cell
from cdml_jax.reporting.tables import difference_cell


def page_data(
    shown: Shown,
    images: Sequence[Picture],
    places: np.ndarray,
    suspects: Sequence[ListedSuspect],
    copies: Sequence[Sequence[int]],
) -> dict[str, Any]:
    """All that the script needs but the small pictures.

    Args:
      shown: what the page is made of.
      images: of the page, those of the split first.
      places: of these in the split.
      suspects: that the page lists.
      copies: groups of places of images that are nearly equal.
    """
    classes, table, order = shown.classes, shown.table, shown.order()
    methods, said = list(table.runs), shown.said
    palette = colours(methods)
    keys = list(said)
    pairs, apart = shown.pairs() if not shown.epochs_alone else ([], False)
    worst = None if shown.epochs_alone else shown.worst()
    return {
        "split": shown.split,
        "labelled": True,
        "classes": classes.names,
        "family": classes.families,
        "familyNames": classes.family_names,
        "order": order.tolist(),
        "frames": _frames(np.asarray(classes.families)[order]) if classes.families is not None else [],
        "names": [image.name for image in images],
        "labels": [image.label for image in images],
        "splits": [image.split for image in images[len(places) :]],
        "held": len(places),
        "total": len(next(iter(said.values())).labels) if said else 0,
        "methods": [
            {
                "key": method,
                "title": table.titles[method],
                "colour": palette[method],
                "seeds": len(table.runs[method]),
                "runs": [k for k, (name, _) in enumerate(keys) if name == method],
                "counts": _sparse(shown.counts(method)),
                "figures": _class_figures(shown.counts(method)),
                "taken": [pair and list(pair) for pair in taken_for(shown.counts(method))],
            }
            for method in methods
        ],
        "first": methods.index(shown.first),
        "against": _against(shown),
        "runs": [_run(methods.index(key[0]), key[1], said[key], places) for key in keys],
        "tops": [
            {"run": keys.index(key), **_top(said[key], places)}
            for key in _looked_at(shown, keys)  # of all runs they would be most of the page
        ],
        "pairs": [
            {"true": p.true, "called": p.called, "number": p.number, "images": p.images}
            | {"note": note, "changes": _changes(shown, p)}
            for p, note in _noted(shown, pairs, apart, worst)
        ],
        "worst": [worst.true, worst.called] if worst else None,
        "pairsApart": apart,
        "near": _near(shown, keys, places),
        "maps": _maps(shown, places),
        "suspects": [
            [s.place, s.label, s.suspect.suggested, thousandth(s.suspect.own), thousandth(s.suspect.other)]
            for s in suspects
        ],
        "suspectsFile": _suspects_file(shown, suspects),
        "copies": [list(group) for group in copies],
        "looks": LOOKS,
        "figures": figures(shown),
    }


def _noted(
    shown: Shown, pairs: Sequence[ConfusedPair], apart: bool, worst: ConfusedPair | None
) -> list[tuple[ConfusedPair, str]]:
    """The pairs with what chose them; last the one that the verdict names, where it is not among them."""
    if not apart:
        return [(pair, "") for pair in pairs]
    seeds = len(shown.table.runs[shown.first])
    found = []
    for pair in pairs:
        among = f"{pair.images // seeds:,} × {seeds}" if seeds > 1 else f"{pair.images:,}"
        found.append((pair, f"Validation images, which chose it: {pair.number:,} of {among} are called so."))
    if worst is not None and {worst.true, worst.called} not in [{p.true, p.called} for p in pairs]:
        why = (
            f"The pair of the verdict, chosen by these same {shown.split} images: a second method looks "
            "better on it than it would on others, by regression to the mean."
        )
        found.append((worst, why))
    return found


def _changes(shown: Shown, pair: ConfusedPair) -> list[str]:
    """How each method changes the share of both classes' images called the other class; "" for the baseline.

    In points, paired by seed, with Student's interval where seeds are enough.
    """
    both = [pair.true, pair.called]

    def rate(result: RunResult) -> float:
        counts = result.test_counts
        wrong = int(counts[pair.true, pair.called] + counts[pair.called, pair.true])
        whole = int(counts[both].sum())
        return wrong / whole if whole else math.nan

    table, most = shown.table, len(shown.table.runs[shown.first])
    found = []
    for method in table.runs:
        change = compare(table, method, figure=rate) if method in table.compared else None
        fewer = f", {len(change.seeds)} seeds" if change and FEWEST <= len(change.seeds) < most else ""
        found.append(difference_cell(change) + fewer if change else "")
    return found


def _suspects_file(shown: Shown, suspects: Sequence[ListedSuspect]) -> str:
    """The listed suspects as comma-separated values."""
    names = shown.classes.names
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["split", "image", "class", "suggested", "class_probability", "suggested_probability"])
    for s in suspects:
        words = map(cell, (s.split, s.name, names[s.label], names[s.suspect.suggested]))
        shares = (f"{p:.3f}" if math.isfinite(p) else "" for p in (s.suspect.own, s.suspect.other))
        writer.writerow([*words, *shares])
    return table.getvalue()


def _frames(families: np.ndarray) -> list[list[float]]:
    """Ends of each family's box on the matrix, whose rows are in this order."""
    edges = [0, *(np.flatnonzero(np.diff(families)) + 1).tolist(), len(families)]
    return [[start - 0.5, end - 0.5] for start, end in itertools.pairwise(edges)]


def _class_figures(counts: np.ndarray) -> dict[str, list[float]]:
    """Figures of every class, shares in per cent, −1 where there is none."""
    found = class_figures(counts)
    return {"support": found.support.tolist()} | {
        name: [-1 if math.isnan(value) else round(100 * value, 4) for value in getattr(found, name).tolist()]
        for name in ("precision", "recall", "f1")
    }


def _against(shown: Shown) -> int:
    """Place of the method that cards set against the first one: CDML, else another; −1 for none."""
    methods = list(shown.table.runs)
    others = sorted(set(methods) - {shown.first}, key=lambda name: (name != "cdml", methods.index(name)))
    return methods.index(others[0]) if others else -1


def _sparse(counts: np.ndarray) -> list[int]:
    """Row, column and number of each entry that is not 0, one after the other."""
    rows, columns = np.nonzero(counts)
    return np.stack([rows, columns, counts[rows, columns]], axis=1).ravel().tolist()


def thousandth(probability: float) -> int:
    """A probability in thousandths."""
    return round(1000 * probability) if math.isfinite(probability) else -1


def thousandths(probabilities: np.ndarray) -> list[int]:
    """Probabilities in thousandths; −1 for those that are not known."""
    return np.where(np.isfinite(probabilities), np.rint(1000 * probabilities), -1).astype(int).tolist()


def _run(method: int, seed: int, said: Predictions, places: np.ndarray) -> dict[str, Any]:
    return {
        "method": method,
        "seed": seed,
        "called": said.top_classes[places, 0].tolist(),
        "p": thousandths(said.top_probabilities[places, 0]),
    }


def _top(said: Predictions, places: np.ndarray) -> dict[str, Any]:
    return {
        "classes": said.top_classes[places].tolist(),
        "p": [thousandths(row) for row in said.top_probabilities[places]],
        "own": thousandths(said.true_probability[places]),
    }


def _looked_at(shown: Shown, keys: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The first run of the method that is shown first, and of CDML where that is another."""
    found = []
    for method in dict.fromkeys((shown.first, "cdml")):
        found += [key for key in keys if key[0] == method][:1]
    return found


def _near(shown: Shown, keys: Sequence[tuple[str, int]], places: np.ndarray) -> dict[str, Any] | None:
    """Neighbours of each image that the page holds, by the first run that has them."""
    there = np.full(places.max(initial=-1) + 1, -1)
    there[places] = np.arange(len(places))
    for key in [*_looked_at(shown, keys), *keys]:
        said = shown.said[key]
        if said.neighbours is None or said.similarities is None:
            continue
        found = said.neighbours[places]
        inside = (found >= 0) & (found < len(there))
        moved = np.where(inside, there[np.where(inside, found, 0)], -1) if len(there) else found
        return {
            "title": f"{shown.table.titles[key[0]]}, seed {key[1]}",
            "index": moved.tolist(),
            "similarity": np.rint(100 * said.similarities[places].astype(float)).astype(int).tolist(),
        }
    return None


def _maps(shown: Shown, places: np.ndarray) -> list[dict[str, Any]]:
    found = []
    for (method, seed), said in shown.said.items():
        if said.map is not None:
            points = np.rint(1000 * said.map[places].astype(float)).astype(int)
            title = f"{shown.table.titles[method]}, seed {seed}"
            found.append(
                {
                    "title": title,
                    "run": list(shown.said).index((method, seed)),
                    "x": points[:, 0].tolist(),
                    "y": points[:, 1].tolist(),
                }
            )
    return found


def as_text(files: Iterable[bytes]) -> list[str]:
    """Files in base 64."""
    return [base64.b64encode(file).decode() for file in files]
