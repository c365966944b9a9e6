"""What a page shows, gathered from stored results: runs, images, pairs, suspects."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from cdml_jax.data.classes import Classes
from cdml_jax.errors import UserError
from cdml_jax.reporting.pairs import ConfusedPair, call_rates
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.suspects import HELD_OUT, Suspect, suspected_labels
from cdml_jax.reporting.table import Split, Table

Open = Callable[[str], bytes | np.ndarray]
"""Gives an image of the data set by its name: a file's bytes, or pixels; else raises `UserError`."""

PAIRS = 20
MOST_CLASSES = 5_000
MOST_IMAGES = 20_000
_SUSPECTS = 200  # that a page lists


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image on the page: its split, its name, and its class, −1 where none is known."""

    split: str
    name: str
    label: int


@dataclasses.dataclass(frozen=True)
class ListedSuspect:
    """A suspected label, and where its image stands on the page; `place` is −1 where it does not."""

    place: int
    split: str
    name: str
    label: int
    suspect: Suspect


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """What a page is made of.

    Attributes:
      name: of the data set.
      table: as `as_shown` gives it; a single run is a table of one.
      split: whose images are shown.
      open: gives an image by its name; None where images are not at hand.
      out_of_fold: what folds said of training and validation images; None where there are none.
      settings: what the run was configured with; may be nested.
      warmup: epochs in which every method is the baseline.
      command: that makes the results again.
      notes: lines about the results that a reader must know, such as of which epoch they are.
    """

    name: str
    table: Table
    split: Split
    open: Open | None = None
    out_of_fold: Predictions | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warmup: int = 0
    command: str = ""
    notes: Sequence[str] = ()

    @property
    def classes(self) -> Classes:
        """Of the table."""
        return self.table.classes

    @functools.cached_property
    def said(self) -> dict[tuple[str, int], Predictions]:
        """What each run, by method and seed, said of the images; none where no run kept it.

        Raises:
          UserError: the runs are not of the same images.
        """
        found = {
            (method, seed): result.test
            for method, runs in self.table.runs.items()
            for seed, result in runs.items()
            if result.test is not None
        }
        names = {said.names for said in found.values()}
        if len(names) > 1:
            raise UserError(
                f"the runs are of other {self.split} images, or have them in another order: no page can show "
                "them together"
            )
        return found

    @property
    def first(self) -> str:
        """The method whose confusion is shown first: the baseline if it was run."""
        return self.table.baseline if self.table.has_baseline else next(iter(self.table.runs))

    @property
    def epochs_alone(self) -> bool:
        """Whether nothing has been evaluated yet."""
        return not any(result.test_counts.any() for result in self.table.results)

    def result(self, method: str) -> RunResult:
        """The result of a method's first seed."""
        return next(iter(self.table.runs[method].values()))

    def counts(self, method: str) -> np.ndarray:
        """Counts of a method on the split, seeds together."""
        return self.table.counts(method)

    def pairs(self) -> tuple[list[ConfusedPair], bool]:
        """The pairs that are confused most, and whether images apart from those shown have chosen them.

        A pair of classes stands there once, in the direction that is confused more.
        """
        table = self.table
        if table.has_baseline:
            chosen = most_confused(table.counts(table.baseline, "validation"), PAIRS)
            if chosen:
                return chosen, True
        return most_confused(self.counts(self.first), PAIRS), False

    def worst(self) -> ConfusedPair | None:
        """The pair that the first method confuses most on the images shown; it compares nothing."""
        return next(iter(most_confused(self.counts(self.first), 1)), None)

    def order(self) -> np.ndarray:
        """Classes so that kin stand together: by family, else by how often they are confused."""
        classes = self.classes
        if classes.families is not None:
            return np.argsort(np.asarray(classes.families), kind="stable")
        if classes.number < 3:
            return np.arange(classes.number)
        rates = np.nan_to_num(call_rates(self.counts(self.first)))
        distances = 1.0 - np.minimum(1.0, rates + rates.T)
        np.fill_diagonal(distances, 0.0)
        return leaves_list(linkage(squareform(distances, checks=False), "average"))

    def pictures(self) -> tuple[list[Picture], np.ndarray]:
        """Images of the split that the page holds, and their places in the split.

        Of more than `MOST_IMAGES` those that some run calls wrongly come first.
        """
        said = list(self.said.values())
        if not said:
            return [], np.zeros(0, int)
        names, labels = said[0].names, said[0].labels
        wrong = np.sum([run.top_classes[:, 0] != labels for run in said], axis=0)
        places = np.sort(np.argsort(-wrong, kind="stable")[:MOST_IMAGES])
        return [Picture(self.split, names[i], int(labels[i])) for i in places], places

    def suspects(self) -> list[ListedSuspect]:
        """Labels that may be wrong, of the split and of held-out images, the most suspected first."""
        found = []
        groups: list[tuple[str, list[Predictions]]] = [(self.split, list(self.said.values()))]
        if self.out_of_fold is not None:
            groups.append((HELD_OUT, [self.out_of_fold]))
        for split, runs in groups:
            for suspect in suspected_labels(runs, self.classes.number):
                said = runs[0]
                found.append(
                    ListedSuspect(
                        -1, split, said.names[suspect.image], int(said.labels[suspect.image]), suspect
                    )
                )
        return sorted(found, key=lambda each: each.suspect.own - each.suspect.other)


def most_confused(counts: np.ndarray, number: int) -> list[ConfusedPair]:
    """Pairs of classes by the share of the first's images that are called the second, each pair once.

    Args:
      counts: (C, C); [i, j] = images of class i called j.
      number: how many at most; pairs that are never confused are left out.

    Returns:
      The highest share first; of equal ones that whose other direction is confused more, then by index.

    >>> [(p.true, p.called) for p in most_confused(np.array([[8, 2, 0], [0, 8, 2], [0, 1, 9]]), 2)]
    [(1, 2), (0, 1)]
    """
    true, called = np.nonzero(counts)
    true, called = true[true != called], called[true != called]
    sizes = counts.sum(axis=1)
    shares, back = counts[true, called] / sizes[true], counts[called, true] / np.maximum(1, sizes[called])
    kept: dict[frozenset[int], ConfusedPair] = {}
    for k in np.lexsort((called, true, -back, -shares)):
        i, j = int(true[k]), int(called[k])
        pair = ConfusedPair(i, j, float(shares[k]), int(counts[i, j]), int(sizes[i]))
        kept.setdefault(frozenset((i, j)), pair)
        if len(kept) == number:
            break
    return list(kept.values())


def as_shown(table: Table, split: Split) -> Table:
    """The table with the split that is shown as its test split; validation images choose nothing here."""
    if split == "test":
        return table
    runs = {
        method: {
            seed: dataclasses.replace(
                result,
                test_counts=result.validation_counts,
                test=result.validation,
                validation_counts=np.zeros_like(result.validation_counts),
                validation=None,
                embeddings=None,
            )
            for seed, result in seeds.items()
        }
        for method, seeds in table.runs.items()
    }
    return dataclasses.replace(table, runs=runs)


def with_suspects(
    pictures: Sequence[Picture], places: np.ndarray, suspects: Sequence[ListedSuspect], split: str
) -> tuple[list[Picture], list[ListedSuspect]]:
    """The page's images with those of its first suspects, and these suspects with their places.

    Args:
      pictures, places: as `Shown.pictures` gives them.
      suspects: all, the most suspected first.
      split: of `pictures`.
    """
    images, there = list(pictures), {int(place): k for k, place in enumerate(places)}
    listed = []
    for each in suspects[:_SUSPECTS]:
        place = there.get(each.suspect.image, -1) if each.split == split else -1
        if place < 0:
            place = len(images)
            images.append(Picture(each.split, each.name, each.label))
        listed.append(dataclasses.replace(each, place=place))
    return images, listed
