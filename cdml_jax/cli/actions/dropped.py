"""Which images a method left out for their changing predictions: a file, and a line about it."""

from __future__ import annotations

import csv
import io

import numpy as np
from etils.epath import Path

from cdml_jax.data.dividing.label_noise import Relabelled
from cdml_jax.distributed import processes
from cdml_jax.methods import Method
from cdml_jax.runs.checkpoint import Run
from cdml_jax.system import console
from cdml_jax.system.files import write_text
from cdml_jax.training.program import Program

FILE = "dropped.csv"


def write_dropped(folder: Path, program: Program, method: Method, run: Run) -> None:
    """Write the images that the last predictions leave out, those that changed most first.

    By the share of the last epoch that was trained. Nothing where the method leaves none out.
    """
    dropping = method.structure.dropping
    if dropping is None or not processes.is_first():
        return
    share = dropping.share_of(run.epoch - 1 - program.config.warmup_epochs)
    ranks, changes = np.asarray(run.state.images.rank), np.asarray(run.state.images.change)
    feed, names = program.feed("train"), program.dataset.classes.names
    found = [index for index in np.argsort(ranks, kind="stable").tolist() if ranks[index] < share]
    source = program.dataset.splits["train"]
    changed = source.changed if isinstance(source, Relabelled) else None
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "class", "change", *(["label changed"] if changed is not None else [])])
    for index in found:
        row = [feed.name(index), names[int(feed.labels[index])], f"{changes[index]:.4f}"]
        rows.writerow(row + ([str(bool(changed[index]))] if changed is not None else []))
    write_text(folder / FILE, text.getvalue())
    said = f"Left out by their last predictions: {len(found):,} of {len(ranks):,} images, {folder / FILE}"
    if changed is not None and found:
        wrong = changed[found].mean()
        said += (
            f". {wrong:.1%} of them carry a changed label (data.label_noise), {changed.mean():.1%} of all do"
        )
    console.say(said)
