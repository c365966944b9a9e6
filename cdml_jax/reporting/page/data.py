"""What the page's script draws, as JSON: images, answers, counts, curves."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cdml_jax.reporting.answers import calibration_error, reliability
from cdml_jax.reporting.colours import colours
from cdml_jax.reporting.page.shown import ListedSuspect, Picture, Shown
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.tables import spread

_CURVES = {
    "softmax_loss": "softmax loss",
    "loss": "training loss (each method's own objective)",
    "triplet_loss": "triplet loss",
    "accuracy": "training accuracy, %",
    "validation_accuracy": "validation accuracy, %",
    "mean_class_error": "mean class error in training, %",
    "validation_mean_class_error": "validation mean class error, %",
    "learning_rate": "learning rate",
    "triplet_weight": "weight of the triplets",
    "active_share": "share of triplets inside the margin, %",
    "gradient_norm": "norm of the gradient",
}
_PER_CENT = ("accuracy", "error", "share")
_WATCHED = 12  # pairs, and classes, whose weights are drawn


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
    classes, table = shown.classes, shown.table
    methods, said = list(table.runs), shown.said
    palette = colours(methods)
    keys = list(said)
    pairs, apart = shown.pairs() if not shown.epochs_alone else ([], False)
    return {
        "split": shown.split,
        "classes": classes.names,
        "family": classes.families,
        "familyNames": classes.family_names,
        "order": shown.order().tolist(),
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
                "runs": [k for k, (name, _) in enumerate(keys) if name == method],
                "counts": _sparse(shown.counts(method)),
            }
            for method in methods
        ],
        "first": methods.index(shown.first),
        "runs": [_run(methods.index(key[0]), key[1], said[key], places) for key in keys],
        "tops": [
            {"run": keys.index(key), **_top(said[key], places)}
            for key in _looked_at(shown, keys)  # of all runs they would be most of the page
        ],
        "pairs": [
            {"true": p.true, "called": p.called, "number": p.number, "images": p.images} for p in pairs
        ],
        "pairsApart": apart,
        "near": _near(shown, keys, places),
        "maps": _maps(shown, places),
        "suspects": [
            [s.place, s.label, s.suspect.suggested, _part(s.suspect.own), _part(s.suspect.other)]
            for s in suspects
        ],
        "copies": [list(group) for group in copies],
        "reliability": _calibrations(shown, palette),
        "curves": _curves(shown, palette),
        "weights": [_weights(shown.result(method), table.titles[method]) for method in methods],
    }


def _sparse(counts: np.ndarray) -> list[int]:
    """Row, column and number of each entry that is not 0, one after the other."""
    rows, columns = np.nonzero(counts)
    return np.stack([rows, columns, counts[rows, columns]], axis=1).ravel().tolist()


def _part(probability: float) -> int:
    """A probability in thousandths."""
    return round(1000 * probability) if math.isfinite(probability) else -1


def _parts(probabilities: np.ndarray) -> list[int]:
    return np.where(np.isfinite(probabilities), np.rint(1000 * probabilities), -1).astype(int).tolist()


def _run(method: int, seed: int, said: Predictions, places: np.ndarray) -> dict[str, Any]:
    return {
        "method": method,
        "seed": seed,
        "called": said.top_classes[places, 0].tolist(),
        "p": _parts(said.top_probabilities[places, 0]),
    }


def _top(said: Predictions, places: np.ndarray) -> dict[str, Any]:
    return {
        "classes": said.top_classes[places].tolist(),
        "p": [_parts(row) for row in said.top_probabilities[places]],
        "own": _parts(said.true_probability[places]),
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


def _calibrations(shown: Shown, palette: Mapping[str, str]) -> list[dict[str, Any]]:
    """How probable and how right the answers of each method are, seeds together; then at its temperature."""
    found = []
    for method, title in shown.table.titles.items():
        runs = [said for (name, _), said in shown.said.items() if name == method]
        if not runs:
            continue
        rights = [run.top_classes[:, 0] == run.labels for run in runs]
        right = np.concatenate(rights)
        kinds = [(title, [run.top_probabilities[:, 0] for run in runs])]
        scaled = [run.calibrated_probability for run in runs if run.calibrated_probability is not None]
        if len(scaled) == len(runs):
            kinds.append((f"{title}, calibrated", scaled))
        for name, parts in kinds:
            probability = np.concatenate(parts)
            errors = [100 * calibration_error(*each) for each in zip(parts, rights)]
            found.append(
                {
                    "title": name,
                    "colour": palette[method],
                    "calibrated": name != title,
                    "error": spread(errors) + " %",
                    "bins": [
                        [bin_.images, bin_.probability, bin_.accuracy]
                        for bin_ in reliability(probability, right)
                        if bin_.images
                    ],
                }
            )
    return found


def _curves(shown: Shown, palette: Mapping[str, str]) -> dict[str, Any]:
    """Figures of each epoch: of each method the mean over seeds, the lowest and the highest."""
    present = {key for result in shown.table.results for entry in result.history for key in entry}
    series = []
    for method, title in shown.table.titles.items():
        runs = list(shown.table.runs[method].values())
        figures = {key: _by_epoch(runs, key) for key in _CURVES if key in present}
        series.append({"title": title, "colour": palette[method], "figures": figures})
    warmup = shown.settings.get("warmup_epochs")
    return {
        "labels": {key: label for key, label in _CURVES.items() if key in present},
        "series": series,
        "warmup": warmup if isinstance(warmup, int) else 0,
    }


def _by_epoch(runs: Iterable[RunResult], key: str) -> list[list[float]]:
    """Epoch, mean, lowest, highest and how many seeds, of each epoch that has the figure."""
    scale = 100.0 if any(part in key for part in _PER_CENT) else 1.0
    found: dict[int, list[float]] = {}
    for run in runs:
        for place, entry in enumerate(run.history):
            value = entry.get(key)
            if value is not None and math.isfinite(value):
                found.setdefault(int(entry.get("epoch", place + 1)), []).append(scale * value)
    return [
        [epoch, *(float(f"{f(values):.6g}") for f in (np.mean, min, max)), len(values)]
        for epoch, values in sorted(found.items())
    ]


def _weights(result: RunResult, title: str) -> dict[str, Any]:
    """How weights of pairs and of classes went from epoch to epoch in a run."""
    pairs: dict[str, dict[int, list[float]]] = {}
    classes: dict[str, dict[int, float]] = {}
    for place, entry in enumerate(result.history):
        epoch = int(entry.get("epoch", place + 1))
        for each in _listed(entry, "confused_pairs"):
            name = f"{each['true']} → {each['called']}"
            pairs.setdefault(name, {})[epoch] = [each["weight"], each["share"]]
        for each in _listed(entry, "class_weights"):
            classes.setdefault(each["name"], {})[epoch] = each["weight"]
    chosen = sorted(pairs, key=lambda name: -max(weight for weight, _ in pairs[name].values()))[:_WATCHED]
    heavy = sorted(classes, key=lambda name: -max(classes[name].values()))[:_WATCHED]
    return {
        "title": f"{title}, seed {result.seed}",
        "pairs": [
            [name, [[epoch, *map(_short, values)] for epoch, values in sorted(pairs[name].items())]]
            for name in chosen
        ],
        "classes": [
            [name, [[epoch, _short(weight)] for epoch, weight in sorted(classes[name].items())]]
            for name in heavy
        ],
    }


def _listed(entry: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = entry.get(key)
    return value if isinstance(value, list) else []


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def as_text(files: Iterable[bytes]) -> list[str]:
    """Files in base 64."""
    return [base64.b64encode(file).decode() for file in files]
