"""What is measured of a run's embeddings, and how results on disk hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cdml_jax.retrieval.measures import Retrieval

COLUMNS = ("embedding", "test_recall_at_1", "test_map_at_r", "test_r_precision", "test_nmi")
"""Names in rows.csv."""


@dataclass(frozen=True)
class EmbeddingFigures:
    """What was measured of a split's embeddings.

    Args:
      embedding: which it is, "projection" or "features".
      retrieval: of each image among the others.
      nmi: normalised mutual information of the classes and as many clusters; NaN where it was left out, or
        each image is a class of its own.
    """

    embedding: str
    retrieval: Retrieval
    nmi: float

    def __str__(self) -> str:
        nmi = "" if math.isnan(self.nmi) else f", NMI {self.nmi:.2%}"
        return f"{self.retrieval}{nmi}"

    @property
    def warning(self) -> str | None:
        """One line where the retrieval figures are noise; None elsewhere."""
        return self.retrieval.warning

    def columns(self) -> dict[str, Any]:
        """`COLUMNS`, rates as fractions in [0, 1], None where there is none."""
        found = self.retrieval
        rates = (found.recall[1], found.map_at_r, found.r_precision, self.nmi)
        return dict(zip(COLUMNS, (self.embedding, *map(_or_none, rates)), strict=True))

    def record(self) -> dict[str, Any]:
        """All figures, for JSON."""
        found = self.retrieval
        return {
            "embedding": self.embedding,
            "recall": {str(k): _or_none(value) for k, value in found.recall.items()},
            "r_precision": _or_none(found.r_precision),
            "map_at_r": _or_none(found.map_at_r),
            "queries": found.queries,
            "unresolved": found.unresolved,
            "nmi": _or_none(self.nmi),
        }

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> EmbeddingFigures:
        """What `record` gave.

        Raises:
          KeyError, TypeError, ValueError, AttributeError: it is damaged.
        """
        found = Retrieval(
            recall={int(k): _or_nan(value) for k, value in record["recall"].items()},
            r_precision=_or_nan(record["r_precision"]),
            map_at_r=_or_nan(record["map_at_r"]),
            queries=int(record["queries"]),
            unresolved=float(record.get("unresolved", 0.0)),  # which older results lack
        )
        return cls(record["embedding"], found, _or_nan(record["nmi"]))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
