"""Curves, weights and calibration as Plotly's traces and layouts; the page's script draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cdml_jax.reporting.answers import calibration_error, reliability
from cdml_jax.reporting.colours import colours
from cdml_jax.reporting.page.shown import Shown
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.tables import spread

CURVES = {
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
# Okabe and Ito's, which the colour-blind tell apart; a second round is dotted.
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_KINDS = ("weights of pairs", "shares of triplets", "weights of classes")

LOOKS: dict[str, dict[str, Any]] = {
    "light": {
        "heat": [[0, "#fff2dc"], [0.3, "#fdbb6b"], [0.65, "#d7301f"], [1, "#5c0011"]],
        "change": [[0, "#2166ac"], [0.5, "#ffffff"], [1, "#e08214"]],
        "grey": [[0, "#f1f2f4"], [1, "#b9bfc8"]],
        "#a6a6a6": "#7d7d7d",
    },
    "dark": {
        "heat": [[0, "#2a2118"], [0.3, "#8a4b12"], [0.65, "#ef9b3d"], [1, "#fff3d6"]],
        "change": [[0, "#2166ac"], [0.5, "#14161a"], [1, "#e08214"]],
        "grey": [[0, "#22272e"], [1, "#5a6573"]],
        "#000000": "#e8eaee",
        "#0064a0": "#4aa3ea",
        "#0072b2": "#3d9fe0",
    },
}
"""Scales of the matrix in either scheme, and colours of lines that are others there."""
Figure = tuple[str, list[dict[str, Any]], dict[str, Any]]
"""What a choice calls it, its traces, its layout."""


def figures(shown: Shown) -> dict[str, list[Figure]]:
    """The figures of each drawing of the page, by the name of its element."""
    moved = [
        figure
        for method, title in shown.table.titles.items()
        for figure in _weights(shown.result(method), f"{title}, seed {shown.result(method).seed}")
    ]
    nothing: Figure = (
        "nothing was kept",
        [],
        {"annotations": [{"text": "Nothing was kept.", "showarrow": False}]},
    )
    return {
        "curve": _curves(shown) or [nothing],
        "weights": moved or [nothing],
        "calibration": [_calibration(shown)],
    }


def literal(text: str) -> str:
    """A name as a label of Plotly's, which takes some tags and entities for markup.

    >>> literal("<b>wren</b> & tit")
    '&lt;b&gt;wren&lt;/b&gt; &amp; tit'
    """
    line = " ".join(str(text).split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def calibrations(shown: Shown) -> list[tuple[str, str, str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Title, method, calibration error and, of each seed, probabilities and rights; then calibrated ones."""
    found = []
    for method, title in shown.table.titles.items():
        runs = [said for (name, _), said in shown.said.items() if name == method]
        rights = [run.top_classes[:, 0] == run.labels for run in runs]
        kinds = {title: [run.top_probabilities[:, 0] for run in runs]}
        scaled = [run.calibrated_probability for run in runs if run.calibrated_probability is not None]
        if scaled and len(scaled) == len(runs):
            kinds[f"{title}, calibrated"] = scaled
        for name, parts in kinds.items():
            if parts:
                seeds = list(zip(parts, rights))
                error = spread([100 * calibration_error(*seed) for seed in seeds])
                found.append((name, method, f"{error} %", seeds))
    return found


def _calibration(shown: Shown) -> Figure:
    """How probable and how right the answers of each method are, seeds together."""
    palette = colours(shown.table.runs)
    ideal = {"x": [0, 100], "y": [0, 100], "mode": "lines", "name": "as it should be", "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = [ideal | {"line": {"dash": "dash", "width": 1, "color": "#888888"}}]
    for title, method, _, seeds in calibrations(shown):
        probability, right = (np.concatenate(values) for values in zip(*seeds))
        bins = [each for each in reliability(probability, right) if each.images]
        dash = "solid" if title == shown.table.titles[method] else "dot"
        traces.append(
            {
                "mode": "lines+markers",
                "name": literal(title),
                "x": [100 * each.probability for each in bins],
                "y": [100 * each.accuracy for each in bins],
                "text": [f"{each.images:,} answers" for each in bins],
                "hovertemplate": "said %{x:.1f} %, right %{y:.1f} %, %{text}",
                "line": {"color": palette[method], "dash": dash},
            }
        )
    layout = {
        "xaxis": {"title": {"text": "probability of the answers, %"}, "range": [0, 101]},
        "yaxis": {"title": {"text": "right, %"}, "range": [0, 101]},
    }
    return "calibration", traces, layout


def _curves(shown: Shown) -> list[Figure]:
    """Figures of each epoch: the mean over a method's seeds, a band from the lowest to the highest."""
    present = {key for result in shown.table.results for entry in result.history for key in entry}
    palette = colours(shown.table.runs)
    shapes = []
    if shown.warmup > 0:
        place = {"x0": 0.5, "x1": shown.warmup + 0.5, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
        shapes = [{"type": "rect", "fillcolor": "rgba(136,136,136,0.25)", "line": {"width": 0}} | place]
    found = []
    for key, label in CURVES.items():
        if key not in present:
            continue
        traces: list[dict[str, Any]] = []
        for method, title in shown.table.titles.items():
            points = by_epoch(shown.table.runs[method].values(), key)
            if points:
                traces += _with_band(points, palette[method], literal(title))
        layout = {
            "shapes": shapes,
            "xaxis": _epochs(traces),
            "yaxis": {"title": {"text": label}},
            "hovermode": "x unified",
        }
        found.append((label, traces, layout))
    return found


def _with_band(points: Sequence[Sequence[float]], colour: str, title: str) -> list[dict[str, Any]]:
    epochs, means, lows, highs, seeds = (list(column) for column in zip(*points))
    line: dict[str, Any] = {
        "x": epochs,
        "y": means,
        "name": title,
        "legendgroup": title,
        "line": {"color": colour},
    }
    traces: list[dict[str, Any]] = [line | {"mode": "lines" if len(epochs) > 1 else "markers"}]
    if max(seeds) > 1:
        band: dict[str, Any] = {
            "x": epochs + epochs[::-1],
            "y": highs + lows[::-1],
            "fill": "toself",
            "mode": "none",
        }
        band |= {"fillcolor": f"{colour}2e", "hoverinfo": "skip", "showlegend": False, "legendgroup": title}
        traces.insert(0, band)
    return traces


def by_epoch(runs: Iterable[RunResult], key: str) -> list[list[float]]:
    """Epoch, mean, lowest, highest and how many seeds, of each epoch that has the figure."""
    scale = 100.0 if any(part in key for part in _PER_CENT) else 1.0
    found: dict[int, list[float]] = {}
    for run in runs:
        for place, entry in enumerate(run.history):
            value = entry.get(key)
            if value is not None and math.isfinite(value):
                found.setdefault(int(entry.get("epoch", place + 1)), []).append(scale * value)
    return [
        [epoch, *map(_short, (sum(values) / len(values), min(values), max(values))), len(values)]
        for epoch, values in sorted(found.items())
    ]


def _weights(result: RunResult, title: str) -> list[Figure]:
    """How weights of pairs and of classes went from epoch to epoch in a run."""
    kinds: list[dict[str, dict[int, float]]] = [{}, {}, {}]
    for place, entry in enumerate(result.history):
        epoch = int(entry.get("epoch", place + 1))
        for each in _listed(entry, "confused_pairs"):
            name = f"{each['true']} → {each['called']}"
            kinds[0].setdefault(name, {})[epoch] = each["weight"]
            kinds[1].setdefault(name, {})[epoch] = each["share"]
        for each in _listed(entry, "class_weights"):
            kinds[2].setdefault(each["name"], {})[epoch] = each["weight"]
    found = []
    for kind, series in zip(_KINDS, kinds):
        chosen = sorted(series, key=lambda name: -max(series[name].values()))[:_WATCHED]
        traces = []
        for k, name in enumerate(chosen):
            points = sorted(series[name].items())
            traces.append(
                {
                    "x": [epoch for epoch, _ in points],
                    "y": [_short(value) for _, value in points],
                    "mode": "lines+markers",
                    "name": literal(name),
                    "line": {"color": _LINES[k % 6], "dash": ("solid", "dot")[k // 6]},
                }
            )
        layout: dict[str, Any] = {
            "xaxis": _epochs(traces),
            "yaxis": {"title": {"text": kind}, "rangemode": "tozero"},
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
        }
        if traces:
            found.append((f"{title}: {kind}", traces, layout))
    return found


def _epochs(traces: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The axis of epochs, which are whole numbers."""
    last = max((epoch for trace in traces for epoch in trace["x"]), default=0)
    return {"title": {"text": "epoch"}, "dtick": 1} if last <= 20 else {"title": {"text": "epoch"}}


def _listed(entry: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = entry.get(key)
    return value if isinstance(value, list) else []


def _short(value: float) -> float:
    return float(f"{value:.6g}")
