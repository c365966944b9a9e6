"""The results of a table, grouped once: methods, their seeds, and what the methods and classes are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cdml_jax.data.classes import Classes
from cdml_jax.reporting.results import RunResult

Split = Literal["validation", "test"]


@dataclass(frozen=True, eq=False)
class Table:
    """Results by method and seed; `tabulate` makes one.

    Attributes:
      classes: of the counts, in their order.
      titles: method -> what to print, in the order of the lines; of the methods that have a result.
      runs: method -> seed -> result, methods in the same order, seeds ascending.
      baseline: the method that the others are compared with; it may have no result.
    """

    classes: Classes
    titles: Mapping[str, str]
    runs: Mapping[str, Mapping[int, RunResult]]
    baseline: str = "baseline"

    @property
    def results(self) -> list[RunResult]:
        """All results, by method and seed."""
        return [result for seeds in self.runs.values() for result in seeds.values()]

    @property
    def has_baseline(self) -> bool:
        """Whether there is something to compare with."""
        return self.baseline in self.runs

    @property
    def compared(self) -> dict[str, str]:
        """Titles of the methods that are compared with the baseline; none where it has no result."""
        if not self.has_baseline:
            return {}
        return {method: title for method, title in self.titles.items() if method != self.baseline}

    def pairs(self, method: str) -> dict[int, tuple[RunResult, RunResult]]:
        """Seed -> the method's result and the baseline's, for the seeds that both have."""
        ours, theirs = self.runs.get(method, {}), self.runs.get(self.baseline, {})
        return {seed: (ours[seed], theirs[seed]) for seed in ours if seed in theirs}

    def counts(self, method: str, split: Split = "test") -> np.ndarray:
        """(C, C) counts of a method on a split, the seeds' added."""
        return np.sum([getattr(result, f"{split}_counts") for result in self.runs[method].values()], axis=0)


def tabulate(
    results: Iterable[RunResult],
    classes: Classes,
    *,
    titles: Mapping[str, str] | None = None,
    baseline: str = "baseline",
) -> Table:
    """Results grouped by method and seed.

    Args:
      results: of any methods and seeds.
      classes: of their counts.
      titles: method -> what to print. Methods stand in this order, then those that it lacks by their own
        names, as they appear; None is no titles.
      baseline: the method that the others are compared with; it may have no result.

    Returns:
      The table.

    Raises:
      ValueError: a method and seed given twice, or counts of another number of classes.

    >>> counts = np.eye(2, dtype=int)
    >>> results = [RunResult(method, 0, 1, 1.0, counts, counts) for method in ("cdml", "odd", "baseline")]
    >>> tabulate(results, Classes(("wren", "tit")), titles={"baseline": "Baseline", "cdml": "CDML"}).titles
    {'baseline': 'Baseline', 'cdml': 'CDML', 'odd': 'odd'}
    """
    runs: dict[str, dict[int, RunResult]] = {}
    for result in results:
        seeds = runs.setdefault(result.method, {})
        if result.seed in seeds:
            raise ValueError(f"method {result.method!r} has two results for seed {result.seed}")
        if len(result.test_counts) != classes.number:
            raise ValueError(
                f"method {result.method!r}, seed {result.seed}: counts of {len(result.test_counts)} classes, "
                f"not of the {classes.number} that are named"
            )
        seeds[result.seed] = result
    titles = titles or {}
    ordered = {method: titles[method] for method in titles if method in runs}
    ordered |= {method: method for method in runs if method not in ordered}
    grouped = {method: dict(sorted(runs[method].items())) for method in ordered}
    return Table(classes, ordered, grouped, baseline)
