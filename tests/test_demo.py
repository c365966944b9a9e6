"""The demo's data and weights together: the task is fine-grained, the shipped weights know nothing of it."""

import numpy as np
import pytest

from cdml_jax import settings
from cdml_jax.confusion.figures import accuracy, confusion_inside_families
from cdml_jax.data.sources import load
from cdml_jax.methods import METHODS
from cdml_jax.runs.loop import fit
from cdml_jax.training.program import Program


@pytest.mark.program
def test_a_trained_baseline_confuses_mostly_kin(tmp_path):
    config = settings("demo", epochs=3, warmup_epochs=0, evaluate_every=3, batch_size=96)
    dataset = load(config.source, data_dir=str(tmp_path), check=False)
    assert len(dataset.splits["test"]) >= 2400
    program = Program(config, dataset)
    untrained = program.evaluate(program.initial_state(0), "validation")
    assert accuracy(untrained) < 0.1
    counts = program.evaluate(fit(program, METHODS["baseline"], 0).state, "validation")
    assert accuracy(counts) > 0.4
    families = dataset.classes.families
    by_chance = (np.bincount(families)[np.array(families)] - 1).mean() / (dataset.num_classes - 1)
    assert confusion_inside_families(counts.matrix, families) > 0.8 > 10 * by_chance
