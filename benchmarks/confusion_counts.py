"""Confusion counts of a million labels: ours beside scikit-learn and torchmetrics.

    python benchmarks/confusion_counts.py [--classes=200,1000,10000] [--repeats=7] [--json=FILE]

Two questions. "new": a matrix from nothing, which is all that scikit-learn does; ours is `init` and `update`
in one program. "added": a million labels into counts that are there, as in training, at once and 4,096 at a
time; ours donates the counts. Every side gets the integers in the form that it takes without a conversion,
and torchmetrics its faster setting (`validate_args=False`). All find the same counts, which is checked.
A peer that is not installed is named and skipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from side_by_side import alternate, compare, keep, machine, milliseconds, missing_peers

from cdml_jax import confusion

BATCH = 4096
OURS_NEW, OURS_ADDED, OURS_BATCHES = "new: ours", "added: ours", f"added: ours, {BATCH:,} at a time"
TORCH_BATCHES = f"added: torchmetrics, {BATCH:,} at a time"


def labels_and_predictions(number: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all classes, seven of ten predicted right and the others at random."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, number)
    return labels, np.where(rng.random(number) < 0.7, labels, rng.integers(0, classes, number))


def our_sides(labels: np.ndarray, predictions: np.ndarray, classes: int) -> dict[str, Callable]:
    """Ours, from nothing and into counts that each call hands to the next."""
    rows, columns = jnp.asarray(labels, jnp.int32), jnp.asarray(predictions, jnp.int32)
    batches = [(rows[i : i + BATCH], columns[i : i + BATCH]) for i in range(0, rows.size, BATCH)]
    new = jax.jit(lambda labels, predictions: confusion.update(confusion.init(classes), labels, predictions))
    add = jax.jit(confusion.update, donate_argnums=0)
    counts = {"all": confusion.init(classes), "batches": confusion.init(classes)}

    def added() -> jax.Array:
        counts["all"] = jax.block_until_ready(add(counts["all"], rows, columns))
        return counts["all"]

    def in_batches() -> jax.Array:
        for batch in batches:
            counts["batches"] = add(counts["batches"], *batch)
        return jax.block_until_ready(counts["batches"])

    return {
        OURS_NEW: lambda: jax.block_until_ready(new(rows, columns)),
        OURS_ADDED: added,
        OURS_BATCHES: in_batches,
    }


def scikit_sides(labels: np.ndarray, predictions: np.ndarray, classes: int) -> dict[str, Callable]:
    """scikit-learn's function, told which classes there are."""
    from sklearn.metrics import confusion_matrix

    every = np.arange(classes)
    return {"new: scikit-learn": lambda: confusion_matrix(labels, predictions, labels=every)}


def torch_sides(labels: np.ndarray, predictions: np.ndarray, classes: int) -> dict[str, Callable]:
    """torchmetrics' function, and its metric, which adds to what it has."""
    import torch
    from torchmetrics.classification import MulticlassConfusionMatrix
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    target, preds = (torch.as_tensor(rows, device=device) for rows in (labels, predictions))
    metric = MulticlassConfusionMatrix(classes, validate_args=False).to(device)

    def wait(counts: torch.Tensor) -> torch.Tensor:
        if device == "cuda":
            torch.cuda.synchronize()
        return counts

    def new() -> torch.Tensor:
        return wait(multiclass_confusion_matrix(preds, target, classes, validate_args=False))

    def added() -> torch.Tensor:
        metric.update(preds, target)
        return wait(metric.confmat)

    def in_batches() -> torch.Tensor:
        for i in range(0, target.numel(), BATCH):
            metric.update(preds[i : i + BATCH], target[i : i + BATCH])
        return wait(metric.confmat)

    return {"new: torchmetrics": new, "added: torchmetrics": added, TORCH_BATCHES: in_batches}


def measure(number: int, classes: int, repeats: int, most: float) -> dict:
    """The sides at one number of classes."""
    labels, predictions = labels_and_predictions(number, classes)
    sides = our_sides(labels, predictions, classes)
    skipped = {}
    for make in (scikit_sides, torch_sides):
        try:
            sides |= make(labels, predictions, classes)
        except ImportError as error:
            skipped[make.__name__.removesuffix("_sides")] = f"{error.name} is not installed"
    # Each batch makes a (C, C) matrix there: minutes for a million labels.
    if TORCH_BATCHES in sides and classes**2 * number / BATCH > 1e9:
        del sides[TORCH_BATCHES]
        skipped[TORCH_BATCHES] = "makes a (C, C) matrix for every batch"
    expected = np.asarray(sides[OURS_NEW]())
    for name, side in sides.items():
        if name.startswith("new"):
            np.testing.assert_array_equal(np.asarray(side()), expected, err_msg=name)
    np.testing.assert_array_equal(np.asarray(sides[OURS_ADDED]()), expected)
    np.testing.assert_array_equal(np.asarray(sides[OURS_BATCHES]()), expected)
    del expected
    seconds = alternate(sides, repeats=repeats, most=most)
    of = {OURS_NEW: OURS_NEW, OURS_ADDED: OURS_ADDED, TORCH_BATCHES: OURS_BATCHES}
    found = {}
    for name, taken in seconds.items():
        ours = of.get(name, OURS_NEW if name.startswith("new") else OURS_ADDED)
        found[name] = {"ms": milliseconds(taken), "best_ms": round(1e3 * min(taken), 3)}
        found[name] |= compare(taken, seconds[ours])
        print(f"{classes:>6,} classes  {name:<40} {found[name]['ms']:>10} ms  {found[name]['ratio']:>8} x")
    for name, reason in skipped.items():
        print(f"{classes:>6,} classes  {name}: skipped, {reason}")
    return {"classes": classes, "sides": found, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", default="200,1000,10000")
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--most", type=float, default=20, help="seconds that a side may take in all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    classes = [int(number) for number in options.classes.split(",")]
    cases = [measure(options.labels, number, options.repeats, options.most) for number in classes]
    result = {
        "question": "Confusion counts of many labels",
        "labels": options.labels,
        **machine(),
        "cases": cases,
    }
    print({name: value for name, value in result.items() if name != "cases"})
    keep(result, options.json, missing_peers(cases))


if __name__ == "__main__":
    main()
