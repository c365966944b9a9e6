"""The published figures to compare ours with.

Source: J. Zhao and Y. Peng, "Cost-Sensitive Deep Metric Learning for Fine-Grained Image Classification",
MultiMedia Modeling (MMM) 2018, top-1 accuracy on CUB-200-2011, in per cent, by the slides of the talk.
"""

from __future__ import annotations

from cdml_jax.reporting.markdown import markdown_table

DATASET = "CUB-200-2011"

SOURCE = "Zhao and Peng, Cost-Sensitive Deep Metric Learning for Fine-Grained Image Classification, MMM 2018"

TABLE_1: dict[str, float] = {
    "CDML": 84.88,
    "STN": 84.10,
    "Bilinear-CNN": 84.10,
    "Coarse-to-Fine": 82.90,
    "NAC": 81.01,
    "PIR": 79.34,
    "TL Atten": 77.90,
    "MIL": 77.40,
}
"""Method -> top-1 %: CDML and the state of the art of its time."""

TABLE_2: dict[str, float] = {
    "baseline": 82.33,
    "weighted_softmax": 83.53,
    "confusion_driven": 83.74,
    "cdml": 84.88,
}
"""Method -> top-1 %: what each half of the method adds."""


def paper_table_1(ours: float | None) -> str:
    """The paper's first table, our own CDML next to the paper's.

    Args:
      ours: our CDML's top-1 % on the test split, mean over seeds; None where it was not run.

    Returns:
      A Markdown table, padded so that it reads well in a terminal.
    """
    rows = []
    for method, figure in TABLE_1.items():
        own = f"{ours:.2f}" if method == "CDML" and ours is not None else "–"
        rows.append([method, f"{figure:.2f}", own])
    return markdown_table(["method", f"paper, {DATASET}, top-1 %", "ours, top-1 %"], rows, "lrr")
