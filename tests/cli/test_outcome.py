"""What is counted of a step is what it computes, and counting leaves the program as it was."""

import pytest
from tiny_run import config, dataset, tiny_networks  # noqa: F401

from cdml_jax.cli.actions.outcome import operations_of
from cdml_jax.methods import METHODS
from cdml_jax.runs.loop import fit
from cdml_jax.training.program import Program


def test_operations_of_a_step_are_counted_by_image_and_without_another_trace(config, dataset):  # noqa: F811
    program = Program(config, dataset)
    fit(program, METHODS["baseline"], 0)
    counted = operations_of(program)
    assert counted > 2 * 2 * 12 * 16  # a linear layer, 12 x 16, forward and for its parameters
    assert program.traces["step"] == 1
    with_a_term = Program(config, dataset, structure=METHODS["pairwise_confusion"].structure)
    assert operations_of(with_a_term) > counted
    assert operations_of(program) == pytest.approx(counted)
