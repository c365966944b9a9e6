"""The card of a trained run: what it was trained on and with, how good it is, what it may be used for."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence

import numpy as np
from etils.epath import Path

from cdml_jax.confusion import Confusion
from cdml_jax.confusion.figures import mean_class_error
from cdml_jax.confusion.forms import as_confusion
from cdml_jax.data.classes import Classes
from cdml_jax.reporting.markdown import code_block, markdown_table, plain_text, settings_table
from cdml_jax.reporting.provenance import Provenance
from cdml_jax.system import console
from cdml_jax.system.archives import intact, sealed
from cdml_jax.system.files import write_json, write_text

FILE = "card.json"
PAGE = "MODEL_CARD.md"
_SHOWN = 200  # classes that the page lists one by one
_Z = 1.959964  # 97.5 % of a normal distribution

_LIMITS = """\
- It names one of its classes for any image, also for one of something else. `--threshold` of `cdml predict`
  leaves images unnamed that no class has enough probability for; it does not recognise everything foreign.
- The figures are of images that came with the training images. Photographs of other places, cameras, seasons
  or backgrounds may be recognised less well; measure on some of them before you rely on it.
- Validation images choose the best epoch and whatever is tuned; test images are the honest figure."""


@dataclasses.dataclass(frozen=True)
class SplitFigures:
    """Figures of a split: images, rightly called ones, the mean error of the classes, and of which epoch."""

    images: int
    correct: int
    mean_class_error: float
    epoch: int

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of Wilson's 95 % interval of the accuracy, over images.

        >>> [round(end, 3) for end in SplitFigures(40, 38, 0.05, 10).interval]
        [0.835, 0.986]
        """
        rate, weight = self.correct / self.images, _Z**2 / self.images
        middle = (rate + weight / 2) / (1 + weight)
        half = math.sqrt(rate * (1 - rate) * weight + weight**2 / 4) / (1 + weight)
        return middle - half, middle + half


@dataclasses.dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
      dataset: its name.
      method: the method's title.
      seed: of the run.
      epochs: that it was trained for.
      sizes: of each split, how many images each class has.
      network: its name.
      parameters: how many numbers it has.
      weights: origin and licence of what it began with.
      provenance: settings that are not the defaults, versions, devices and date.
      figures: by what was evaluated, such as "validation" or "test, best epoch".
    """

    dataset: str
    method: str
    seed: int
    epochs: int
    sizes: Mapping[str, Sequence[int]]
    network: str
    parameters: int
    weights: str
    provenance: Provenance
    figures: Mapping[str, SplitFigures]

    def with_figures(self, of: str, figures: SplitFigures) -> Card:
        """The card with the figures of one thing more."""
        return dataclasses.replace(self, figures={**self.figures, of: figures})

    def page(self, classes: Classes, workdir: str) -> str:
        """The card in Markdown.

        Args:
          classes: what they are called.
          workdir: how commands name the run's folder.
        """
        made, weights = self.provenance, plain_text(self.weights)
        parts = [
            f"# {plain_text(self.method)} on {plain_text(self.dataset)}, seed {self.seed}",
            f"A network that names one of {classes.number:,} classes for an image.",
            f"Trained for {self.epochs:,} epochs on {plain_text(made.machine)}, until {made.date}.",
            f"Versions: {plain_text(made.software)}.",
            code_block(f"cdml predict --workdir={shlex.quote(workdir)} IMAGE"),
            "## Figures",
            self._figures(),
            "## Limits",
            _LIMITS,
            "## Data",
            self._data(classes),
            "## Network",
            f"{self.network}, {self.parameters:,} parameters.",
            f"Pretrained weights, and the licence that what is trained from them falls under: {weights}.",
            "## Settings",
            "Those that are not the defaults of configs/base.py:",
            settings_table(made.settings),
        ]
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def _figures(self) -> str:
        if not self.figures:
            return (
                "None yet: `cdml evaluate` measures the validation and the test images, and adds them here."
            )
        rows = []
        for of, found in self.figures.items():
            low, high = found.interval
            rows.append(
                [
                    of,
                    f"{found.epoch}",
                    f"{found.correct:,} of {found.images:,}",
                    f"{found.correct / found.images:.1%} [{low:.1%}, {high:.1%}]",
                    f"{found.mean_class_error:.1%}",
                ]
            )
        header = ["images", "epoch", "right", "top-1 accuracy [95 % interval]", "mean class error"]
        return markdown_table(header, rows, "lrrrr") + "\nIntervals are Wilson's, over images.\n"

    def _data(self, classes: Classes) -> str:
        totals = ", ".join(f"{sum(sizes):,} {split}" for split, sizes in self.sizes.items())
        lines = [f"{plain_text(self.dataset)}: {classes.number:,} classes; images: {totals}.", ""]
        rows = [
            [plain_text(classes.names[label]), *(f"{sizes[label]:,}" for sizes in self.sizes.values())]
            for label in range(min(classes.number, _SHOWN))
        ]
        lines.append(markdown_table(["class", *self.sizes], rows, "l" + "r" * len(self.sizes)))
        if classes.number > _SHOWN:
            lines.append(f"and {classes.number - _SHOWN:,} more classes, which classes.json lists.")
        return "\n".join(lines)


def write(folder: Path, card: Card, classes: Classes) -> Path:
    """Write a card into the folder of its run, as JSON and as a page; returns the page.

    Raises:
      UserError: it cannot be written.
    """
    write_json(folder / FILE, sealed(dataclasses.asdict(card)))
    write_text(folder / PAGE, card.page(classes, os.fspath(folder)))
    return folder / PAGE


def read(folder: Path) -> Card | None:
    """The card of a run; None where there is none, or none that is as it was written, which a line says."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not intact(stored):
            raise ValueError("edited or damaged")
        del stored["digest"]
        stored["provenance"] = Provenance(**stored["provenance"])
        stored["figures"] = {of: SplitFigures(**found) for of, found in stored["figures"].items()}
        return Card(**stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        console.warn(f"{path} is not as the run wrote it ({error}): the card stays as it is")
        return None


def figures_of(counts: Confusion | np.ndarray, epoch: int) -> SplitFigures | None:
    """Figures of hard counts; None without images."""
    errors, correct = (int(images.sum()) for images in as_confusion(counts).errors_and_correct())
    if not errors + correct:
        return None
    return SplitFigures(errors + correct, correct, mean_class_error(counts), epoch)
