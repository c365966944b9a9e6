"""Compare settings on the validation split alone; the test split is not even loaded.

    python experiments/search.py --config=demo --seeds=3 --out=FILE.jsonl \
        "baseline" "cdml objective.triplet_weight=1.0 sampling.composed=0.25"

Each argument is a method and the keys in which it differs. Every candidate gets the same seeds, steps,
initial parameters and warm-up; differences to the first are paired by seed. One line a candidate goes to
FILE. With --folds=N training and validation images are divided into N folds, the same for every candidate;
each seed then trains N models, each validated on its own fold, and differences are paired by seed and fold.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from cdml_jax.configuration.checks import check
from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.fitting import fitted
from cdml_jax.configuration.load import load_arguments
from cdml_jax.confusion.figures import accuracy
from cdml_jax.data.dividing.folds import fold
from cdml_jax.distributed.mesh import devices_here
from cdml_jax.methods import known_methods, named_method
from cdml_jax.reporting.comparison import paired_interval
from cdml_jax.runs.beginning import beginning
from cdml_jax.runs.loop import fit
from cdml_jax.training.program import Program


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000, help="apart from the table's seeds")
    parser.add_argument("--folds", type=int, default=0, help="cross-validate; 0 uses the validation split")
    parser.add_argument("--out", type=Path)
    parser.add_argument("candidates", nargs="+")
    options, overrides = parser.parse_known_args()
    arguments = [f"--config={options.config}", *overrides]
    base = load_arguments(arguments).settings
    dataset = load_dataset(base, test="")
    first: list[float] = []
    for candidate in options.candidates:
        name, *words = candidate.split()
        loaded = load_arguments([*arguments, *(f"--config.{word}" for word in words)])
        config, method = loaded.settings, named_method(name, known_methods(loaded.methods))
        check(config)
        config = fitted(config, dataset, devices_here())
        fill = beginning(config, dataset.classes)
        whole = Program(config, dataset, structure=method.structure, fill=fill)
        parts = (
            [fold(whole.feeds, index, options.folds) for index in range(options.folds)]
            if options.folds
            else [whole.feeds]
        )
        accuracies, train = [], []
        for part in parts:
            program = whole.beside(feeds=part)
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                run = fit(program, method, seed)
                accuracies.append(100 * accuracy(program.evaluate(run.state, "validation")))
                train.append(100 * run.history[-1]["accuracy"])
        first = first or accuracies
        differences = [a - b for a, b in zip(accuracies, first, strict=True)]
        mean, low, high = paired_interval(differences)
        line = {
            "candidate": candidate,
            "validation": round(float(np.mean(accuracies)), 2),
            "each": [round(a, 2) for a in accuracies],
            "difference": round(mean, 2),
            "interval": [round(low, 2), round(high, 2)],
            "train": round(float(np.mean(train)), 2),
        }
        print(json.dumps(line), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
