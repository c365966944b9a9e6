"""Retrieval and localization by descriptors that need no training, as a table with the published figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from cdml_jax.reporting.markdown import markdown_table

# From the tutorial "Fine-Grained Image Analysis" (X.-S. Wei and J. Wu, ICME 2019), after Wei, Luo, Wu and
# Zhou (TIP 2017): VGG-16's pool5, aspect kept. Top-1 and top-5 mAP in per cent, by data set.
PUBLISHED_NETWORK = "VGG-16, images larger than 160 px"
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "CUB-200-2011": {
        "vlad": (55.92, 62.51),
        "fisher": (52.04, 59.19),
        "average": (56.42, 63.14),
        "maximum": (58.35, 64.18),
        "scda": (59.72, 65.79),
    },
    "Stanford Dogs": {
        "vlad": (69.28, 74.43),
        "fisher": (68.37, 73.74),
        "average": (73.76, 78.47),
        "maximum": (70.37, 75.59),
        "scda": (74.86, 79.24),
    },
}
TITLES = {
    "vlad": "VLAD, 2 centres",
    "fisher": "Fisher vector, 2 Gaussians",
    "average": "average",
    "maximum": "maximum",
    "scda": "average and maximum (SCDA)",
    "scda+": "SCDA+",
    "scda_flip+": "SCDA_flip+",
    "ddt": "average and maximum at DDT's positions, all images one set",
    "average_all": "average of all positions",
    "maximum_all": "maximum of all positions",
    "both_all": "average and maximum of all positions",
    "whole": "the whole image",
    "box_scda": "SCDA",
    "box_ddt_all": "DDT, all images one set",
    "box_ddt": "DDT, the images of each class a set",
}
NOTES = {
    "Stanford Dogs": "The images of Stanford Dogs belong to ImageNet's training set: weights from ImageNet "
    "were trained on these very photographs, test images included."
}


@dataclasses.dataclass(frozen=True)
class Found:
    """What an encoding retrieves, as shares of 1.

    Attributes:
      size: how many numbers it has.
      top1: mAP of the first result, which is Recall@1.
      top5: mAP of the first five, by the number of hits among them.
      top5_of_five: the same, divided by five.
    """

    size: int
    top1: float
    top5: float
    top5_of_five: float


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of one network on one data set.

    Attributes:
      dataset: its name.
      network: its name.
      weights: what `model.weights` said, or the workdir of a run.
      whole: whether the data set has as many images as its publisher says; else nothing is compared.
      side: of the square that it saw, in pixels.
      map_shape: of the last feature map: height, width, channels.
      queries, gallery: images that were looked for, and among which.
      encodings: by keys of `TITLES`.
      corloc: by keys of `TITLES`: CorLoc of all images and of the queries; empty where no box is known.
      located: images whose box is known.
    """

    dataset: str
    network: str
    weights: str
    whole: bool
    side: int
    map_shape: tuple[int, int, int]
    queries: int
    gallery: int
    encodings: Mapping[str, Found]
    corloc: Mapping[str, tuple[float, float]]
    located: int

    def record(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return dataclasses.asdict(self)


def table(measured: Measured) -> str:
    """The figures of a network as Markdown, in per cent, next to those of the paper where it has them."""
    height, width, channels = measured.map_shape
    network = (
        f"{measured.network} (weights: {measured.weights}), whole images squeezed to {measured.side} px; "
        f"last map {height} x {width} x {channels}. {measured.queries:,} queries (test images) among "
        f"{measured.gallery:,} (all others)."
    )
    lines = [f"# Descriptors without training: {measured.dataset}", "", network, ""]
    lines += [NOTES[measured.dataset], ""] if measured.dataset in NOTES else []
    lines += _retrieval(measured)
    if measured.corloc:
        lines += _localization(measured)
    return "\n".join(lines) + "\n"


def _retrieval(measured: Measured) -> list[str]:
    published = PUBLISHED.get(measured.dataset, {}) if measured.whole else {}
    head = ["encoding of the selected positions", "numbers", "top-1 %", "top-5 %", "top-5, over 5 %"]
    head += [f"published top-1 / top-5 ({PUBLISHED_NETWORK})"] if published else []
    rows = []
    for key, found in measured.encodings.items():
        row = [TITLES[key], f"{found.size:,}", *map(_percent, (found.top1, found.top5, found.top5_of_five))]
        if published:
            row.append(" / ".join(f"{value:.2f}" for value in published[key]) if key in published else "")
        rows.append(row)
    said = (
        "Mean average precision of the first result (Recall@1) and of the first five, divided by the hits "
        "among them, or by five. Nothing was trained or chosen."
    )
    return [markdown_table(head, rows, "l" + "r" * (len(head) - 1)), said, ""]


def _localization(measured: Measured) -> list[str]:
    head = ["box", "CorLoc %, all images", "CorLoc %, test images"]
    rows = [[TITLES[key], *map(_percent, both)] for key, both in measured.corloc.items()]
    said = (
        f"CorLoc: share of the {measured.located:,} images with a known box whose own has an intersection "
        "over union of more than one half with it."
    )
    return [markdown_table(head, rows, "lrr"), said, ""]


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.2f}"
