"""Bytes on each device, against arrays that lie there; a run that cannot fit is refused beforehand."""

import dataclasses

import jax
import numpy as np
import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.data import Classes
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.runs import memory
from cdml_jax.training.program import Program

LAYOUTS = [{}, {"data": 4, "model": 2, "shard_parameters_from": 128}]


def bytes_on_first_device(tree):
    first = jax.devices()[0]
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == first
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_bytes_are_those_of_the_arrays(config, dataset, layout):
    config = changed(config, {"optimizer.ema_decay": 0.9})
    config = changed(config, {f"mesh.{key}": value for key, value in layout.items()})
    program = Program(config, dataset)
    state = program.initial_state(0)
    found = memory.needs(program)
    assert found.kept["parameters"] == bytes_on_first_device(state.parameters)
    assert found.kept["optimiser"] == bytes_on_first_device(state.optimizer)
    assert found.kept["moving averages"] == bytes_on_first_device(state.averages)
    assert found.kept["counts"] == bytes_on_first_device(state.counts)
    whole = bytes_on_first_device(mesh_lib.put_replicated(program.mesh, jax.device_get(state.parameters)))
    if layout:
        # Columns of the classifier, 16 x 6 and 6, stay split while a step computes.
        whole -= 4 * (16 * 6 + 6) // 2
        assert found.kept["parameters"] < whole
    assert found.kept["parameters"] + found.step["gathered parameters"] == whole


def test_every_leaf_is_accounted_for(config, dataset):
    """By trees, not by names: a state's bytes are the parts' bytes."""
    program = Program(config, dataset)
    kept = memory.needs(program).kept
    assert sum(kept.values()) - kept["class and pair weights"] == memory.bytes_per_device(
        program.abstract_state()
    )
    assert kept["class and pair weights"] == memory.bytes_per_device(program.abstract_costs())
    assert kept["class and pair weights"] >= 4 * (6 + 6 * 6)


def test_what_runs_where_is_told(config, dataset, monkeypatch):
    monkeypatch.setattr(memory, "bytes_available", lambda device: 1 << 30)
    config = changed(config, {"mesh.model": 2})
    first, second = memory.what_runs_where(Program(config, dataset)).splitlines()
    assert first == "1 process, 8 x cpu, mesh 4 x 2 (data x model), 4 of 16 rows each."
    # 470 floats less half of the classifier's 102; counts of 6 x 3.
    assert second.startswith("Each device: parameters 1.6 KiB, optimiser 1.6 KiB, counts 72 B, ")
    assert second.endswith(" of 1.0 GiB, activations come on top.")


def test_a_run_that_cannot_fit_is_refused_with_its_numbers(config, dataset, monkeypatch):
    program = Program(config, dataset)
    least = memory.needs(program).least
    monkeypatch.setattr(memory, "bytes_available", lambda device: least)
    memory.what_runs_where(program)
    monkeypatch.setattr(memory, "bytes_available", lambda device: least - 1)
    with pytest.raises(
        UserError, match=r"needs at least [\d.]+ KiB and has [\d.]+ KiB \(parameters"
    ) as caught:
        memory.what_runs_where(program)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("storage", "share"), [("dense", 1), ("by_class", 8)])
def test_ten_thousand_classes_need_what_they_need(config, dataset, storage, share):
    """A (C, C) matrix of counts and more at an evaluation, whole or a device's rows."""
    config = changed(config, {"confusion.storage": storage})
    many = dataclasses.replace(dataset, classes=Classes(tuple(map(str, range(10_000)))))
    found = memory.needs(Program(config, many))
    matrix = 4 * 10_000**2
    assert matrix / share <= found.kept["counts"] <= 1.01 * matrix / share
    # Dense counts are summed over the devices into another matrix; rows of classes are where they are.
    held = 2 if storage == "dense" else 1
    assert held * matrix / share <= found.evaluation["evaluation"] <= 1.01 * held * matrix / share


def test_a_cpu_device_has_its_share_of_the_host(monkeypatch):
    monkeypatch.setattr(memory, "_host_bytes_available", lambda: 800)
    assert memory.bytes_available(jax.devices()[0]) == 100


def test_the_host_tells_what_is_free():
    free = memory._host_bytes_available()
    assert free is None or 1 << 20 < free < 1 << 50


def test_an_accelerator_has_its_limit():
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": np.int64(7)}

    assert memory.bytes_available(Device()) == 7
