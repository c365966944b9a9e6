"""The mesh that a configuration asks for, where arrays lie on it, and that results do not depend on it."""

import dataclasses
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from messages import like
from tiny_run import epoch_counts

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import DensePairWeights
from cdml_jax.data import Classes
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.training.program import Program
from cdml_jax.training.state import Costs


@pytest.mark.parametrize(
    ("data", "model", "shape"), [(-1, 1, (8, 1)), (-1, 2, (4, 2)), (2, -1, (2, 4)), (4, 2, (4, 2))]
)
def test_minus_one_is_what_is_left(data, model, shape):
    assert mesh_lib.make_mesh(16, data=data, model=model).devices.shape == shape


@pytest.mark.parametrize(
    ("asked", "rows", "environment", "devices"),
    [
        (4, 6, {}, 3),
        (2, 48, {"JAX_NUM_CPU_DEVICES": "3"}, 3),
        (2, 48, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
    ],
)
def test_the_processor_is_divided_among_devices_that_share_the_rows(asked, rows, environment, devices):
    code = (
        "import jax; from cdml_jax.distributed.mesh import divide_processor; "
        f"divide_processor({asked}, {rows}); print(len(jax.devices('cpu'))); divide_processor(5, 5)"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "XLA_FLAGS": "", **environment}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(run.stdout) == devices


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "sizes", "message"),
    [
        (12, 1, {}, "batch_size: 12 rows cannot be split over 8 devices; choose a multiple of 8"),
        (24, 2, {}, "24 rows cannot be split over 8 devices x 2 microbatches; choose a multiple of 16"),
        (10, 1, {"model": 2}, "over the 4 devices of mesh.data; choose a multiple of 4"),
        (16, 1, {"model": 3}, "mesh.data x mesh.model: -1 x 3 does not make up 8 devices"),
        (16, 1, {"data": 4}, "4 x 1 does not make up 8 devices"),
        (16, 1, {"data": 16, "model": -1}, "16 x -1 does not make up 8 devices"),
        (16, 1, {"data": -1, "model": -1}, "-1 x -1 is not a mesh; give sizes from 1, and -1 to one"),
        (16, 1, {"model": 0}, "-1 x 0 is not a mesh"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(batch_size, accumulation, sizes, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        mesh_lib.make_mesh(batch_size, accumulation, **sizes)


def test_parameters_lie_on_their_largest_axis_that_can_be_split():
    mesh = mesh_lib.make_mesh(16, data=4, model=2)
    shapes = {
        "heads": {
            "classifier": {"kernel": (12, 6), "bias": (6,)},
            "projection": {"kernel": (12, 8)},
        },
        "conv": (3, 3, 8, 16),
        "odd": (7, 9),
        "small": (4,),
    }
    parameters = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32), shapes, is_leaf=lambda s: isinstance(s, tuple)
    )
    specs = jax.tree.map(
        lambda s: tuple(s.spec), mesh_lib.of_parameters(mesh, parameters, shard_parameters_from=64)
    )
    assert specs == {
        "heads": {
            "classifier": {"kernel": ("data", "model"), "bias": ("model",)},
            "projection": {"kernel": ("data", None)},
        },
        "conv": (None, None, None, "data"),
        "odd": (None, None),
        "small": (None,),
    }


def test_classes_that_cannot_be_split_are_refused(config, dataset):
    config = changed(config, {"mesh.model": 4})
    with pytest.raises(UserError, match=like("mesh.model: 6 classes cannot be split over 4 devices")):
        Program(config, dataset)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimiser_and_averages_lie_where_their_parameters_do(config, dataset, optimizer):
    config = changed(
        config,
        {
            "optimizer.name": optimizer,
            "optimizer.ema_decay": 0.9,
            "mesh.model": 2,
            "mesh.shard_parameters_from": 256,
        },
    )
    program = Program(config, dataset)
    state = program.initial_state(0)
    kernels = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path((state.optimizer, state.averages))
        if jax.tree_util.keystr(path).endswith("['classifier']['kernel']")
    ]
    assert len(kernels) == {"sgd": 2, "adamw": 3}[optimizer]
    for kernel in (*kernels, state.parameters["heads"]["classifier"]["kernel"]):
        assert kernel.sharding.spec == PartitionSpec("data", "model")
        assert kernel.addressable_shards[0].data.shape == (16 // 4, 6 // 2)


def make_batches(paddings):
    rng = np.random.default_rng(2)
    for padded in paddings:
        order = rng.permutation(16)
        yield {
            "image": rng.integers(0, 256, (16, 16, 16, 3)).astype(np.uint8),
            "label": np.sort(rng.integers(0, 8, 16)).astype(np.int32)[order],
            "mask": (np.arange(16) < 16 - padded)[order],
        }


def make_costs(batch_hard=False):
    pairs = np.random.default_rng(5).random((8, 8)) * (1 - np.eye(8))
    return Costs(
        class_weights=np.float32([0.5, 2.0, 1.0, 0.1, 1.4, 1.0, 0.7, 1.3]),
        pair_weights=DensePairWeights(np.float32(pairs / pairs.sum())),
        triplet_weight=np.float32(0.7),
        focal_gamma=np.float32(0.0),
        pair_beta=np.float32(0),
        miner=np.int32(batch_hard),
        terms={},
        watched_pairs=np.int32([[0, 1], [1, 0], [2, 3]] + [[4, 5]] * 7),
    )


def trained(config, dataset, devices, batch_hard=False):
    """Three steps' parameters, statistics, averages, metrics, counts and a split's counts, on the host."""
    program = Program(config, dataset, devices=jax.devices()[:devices])
    state = program.initial_state(3)
    costs = mesh_lib.put_replicated(program.mesh, make_costs(batch_hard))
    before = jax.tree.map(lambda a: a.sharding, state)
    for batch in make_batches((3, 0, 5)):
        state = program.step(state, mesh_lib.put_batch(program.mesh, batch), costs)
    assert jax.tree.map(lambda a: a.sharding, state) == before
    assert program.traces["step"] == 1
    kept = (state.parameters, state.batch_statistics, state.averages, state.metrics)
    hard, soft = (program.evaluate(state, "validation", soft=soft) for soft in (False, True))
    return (
        jax.device_get(kept),
        epoch_counts(program, state).matrix,
        hard.matrix,
        soft.matrix,
    )


FSDP = {"shard_parameters_from": 1}


@pytest.fixture(scope="module")
def eight(dataset):
    """The same images with eight classes' names."""
    return dataclasses.replace(dataset, classes=Classes(tuple("abcdefgh")))


@pytest.fixture(scope="module")
def alone():
    """Results on one device, by the kind of counts."""
    return {}


@pytest.mark.parametrize(
    ("devices", "layout", "counts"),
    [
        (2, FSDP, "soft"),
        pytest.param(8, FSDP, "hard", marks=pytest.mark.slow),
        (2, {"model": 2}, "soft"),
        (8, {"data": 4, "model": 2}, "soft"),
        pytest.param(8, {"data": 2, "model": 4}, "hard", marks=pytest.mark.slow),
        pytest.param(8, {"data": 4, "model": 2} | FSDP, "soft", marks=pytest.mark.slow),
        (8, {"data": 2, "model": 4} | FSDP, "soft"),
    ],
    ids=str,
)
def test_results_do_not_depend_on_the_mesh(config, eight, alone, devices, layout, counts):
    """Gradients, batch norm, moving averages, metrics and counts are those of the global batch."""
    config = changed(config, {"confusion.counts": counts, "confusion.decay": 0.0, "optimizer.ema_decay": 0.5})
    if counts not in alone:
        alone[counts] = trained(config, eight, 1)
    config = changed(config, {f"mesh.{key}": value for key, value in layout.items()})
    expected, counted, hard, soft = alone[counts]
    found = trained(config, eight, devices)
    for ours, theirs in zip(jax.tree.leaves(found[0]), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(found[1], counted, rtol=1e-5, atol=1e-5)
    assert np.array_equal(found[2], hard)
    np.testing.assert_allclose(found[3], soft, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("accumulation", "batch_hard"), [pytest.param(2, False, marks=pytest.mark.slow), (1, True)]
)
def test_microbatches_and_hardest_triplets_do_not_depend_on_the_mesh(config, eight, accumulation, batch_hard):
    config = changed(config, {"accumulation": accumulation})
    expected = trained(config, eight, 1, batch_hard)
    config = changed(config, {"mesh.data": 2, "mesh.model": 2, "mesh.shard_parameters_from": 1})
    found = trained(config, eight, 4, batch_hard)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


def fake_mesh(processes, data, model):
    """Devices of several processes in their order, as a mesh sees them."""
    each = data * model // processes
    devices = [types.SimpleNamespace(process_index=k // each) for k in range(data * model)]
    return types.SimpleNamespace(
        devices=np.array(devices).reshape(data, model), shape={"data": data, "model": model}
    )


@pytest.mark.parametrize(
    ("processes", "data", "model", "shards"),
    [
        (1, 8, 1, [(0, 1)]),
        (4, 8, 1, [(0, 4), (1, 4), (2, 4), (3, 4)]),
        (2, 4, 2, [(0, 2), (1, 2)]),
        (4, 2, 4, [(0, 2), (0, 2), (1, 2), (1, 2)]),
        (2, 1, 8, [(0, 1), (0, 1)]),
    ],
)
def test_processes_that_share_rows_read_the_same_ones(monkeypatch, processes, data, model, shards):
    found = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found.append(mesh_lib.process_shard(fake_mesh(processes, data, model)))
    assert found == shards


def test_rows_that_straddle_processes_are_refused():
    with pytest.raises(UserError, match=r"mesh\.model: 3 does not fit 3 processes"):
        mesh_lib.process_shard(fake_mesh(3, 4, 3))


def test_gathered_rows_are_whole_and_in_order():
    mesh = mesh_lib.make_mesh(16, data=4, model=2)
    rows = mesh_lib.put_batch(mesh, {"label": np.arange(16)})["label"]
    assert rows.addressable_shards[0].data.shape == (4,)
    gathered = jax.jit(lambda rows: mesh_lib.gather_rows(mesh, rows + 1))(rows)
    assert gathered.is_fully_replicated
    assert jnp.array_equal(gathered, jnp.arange(1, 17))
