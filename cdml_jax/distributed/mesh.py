"""Where arrays live: the one file that names devices.

The devices form a mesh with two axes. Rows of the batch are split over "data"; over "model" lie the columns
of the classifier, and so of the logits and of each device's counts. Parameters are on every device, or, from
a size on, split over "data" too (FSDP). All of that is arranged here; the step says what it needs whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cdml_jax.errors import UserError
from cdml_jax.system import ranges
from cdml_jax.system.trees import named_leaves

DATA, MODEL = "data", "model"
_LEFT = -1  # a size that is what the other axis leaves
_CLASSIFIER = ("heads", "classifier")  # its leaves end in an axis of classes


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """The group `mesh`; what each key means stands in `configs/base.py`."""

    data: int
    model: int
    shard_parameters_from: int
    cpu_devices: int

    def __post_init__(self) -> None:
        # `make_mesh` judges the sizes, which depend on the devices.
        ranges.at_least("mesh.", self, shard_parameters_from=0, cpu_devices=0)


def divide_processor(cpu_devices: int, rows: int) -> None:
    """Let JAX see the processor as `cpu_devices` devices, or fewer if so many cannot share the rows evenly.

    A device computes its rows on one core from end to end, where one device for all cores divides operation
    by operation, and leaves cores idle between. To be called before JAX looks for devices. Without effect
    after that, where the environment gives a number (JAX_NUM_CPU_DEVICES, XLA_FLAGS), and for one of
    several processes, which share the cores already.
    """
    by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    given = by_flag or jax.config.values["jax_num_cpu_devices"] >= 0
    if cpu_devices and not given and not jax.distributed.is_initialized():
        number = max(n for n in range(1, cpu_devices + 1) if rows % n == 0)
        with contextlib.suppress(RuntimeError):  # JAX has looked
            jax.config.update("jax_num_cpu_devices", number)


def devices_here(*, local: bool = False) -> list[jax.Device]:
    """All devices of the run, or those of this process.

    Raises:
      UserError: there is none of the kind that JAX_PLATFORMS asks for, or its driver does not work.
    """
    try:
        return jax.local_devices() if local else jax.devices()
    except Exception as error:  # JAX raises RuntimeError, and AssertionError without a word
        raise UserError(_without_devices(error)) from error


def _without_devices(error: Exception) -> str:
    asked = os.environ.get("JAX_PLATFORMS") or jax.config.values["jax_platforms"] or ""
    kind = "cuda" if asked == "gpu" else asked
    extras = {"cuda": "cuda13", "tpu": "tpu"}
    reason = " ".join(str(error).split("(set JAX_PLATFORMS")[0].split())[:300]
    why = f" ({reason})" if reason else ""
    if not asked:
        return f"JAX finds no device that works{why}; see to its driver, or set JAX_PLATFORMS=cpu"
    install = f"install jax[{extras[kind]}], or " if kind in extras else ""
    return f"JAX finds no {asked} device (JAX_PLATFORMS={asked}){why}; {install}unset JAX_PLATFORMS"


def make_mesh(
    batch_size: int,
    accumulation: int = 1,
    devices: Sequence[jax.Device] | None = None,
    *,
    data: int = _LEFT,
    model: int = 1,
) -> Mesh:
    """Mesh of the devices (all, if None) along ("data", "model"), checked against the global batch.

    Args:
      batch_size: rows of a step, on all devices together.
      accumulation: microbatches of a step.
      devices: in the order of the mesh, "model" running fastest.
      data, model: sizes of the axes; -1, for one of them, is what the other leaves.

    Raises:
      UserError: the sizes do not make up the devices, or do not divide the batch.
    """
    # In the order of their processes: each then holds a block of the batch that its number tells.
    devices = sorted(devices_here(), key=lambda d: (d.process_index, d.id)) if devices is None else devices
    data, model = _sizes(len(devices), data, model)
    if batch_size % (data * accumulation):
        parts = f"{data} devices" if model == 1 else f"the {data} devices of mesh.data"
        parts += f" x {accumulation} microbatches" if accumulation > 1 else ""
        raise UserError(
            f"batch_size: {batch_size} rows cannot be split over {parts}; "
            f"choose a multiple of {data * accumulation}"
        )
    return Mesh(np.array(devices).reshape(data, model), (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def _sizes(devices: int, data: int, model: int) -> tuple[int, int]:
    asked = f"mesh.data x mesh.model: {data} x {model}"
    if any(size < 1 and size != _LEFT for size in (data, model)) or data == model == _LEFT:
        raise UserError(f"{asked} is not a mesh; give sizes from 1, and -1 to one of them for what is left")
    if data == _LEFT:
        data = max(devices // model, 1)
    if model == _LEFT:
        model = max(devices // data, 1)
    if data * model != devices:
        raise UserError(f"{asked} does not make up {devices} devices")
    return data, model


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh) -> NamedSharding:
    """The first axis is split over "data"."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def of_counts(mesh: Mesh) -> NamedSharding:
    """(data, C, C) counts: one matrix for each place on "data", its columns where those of the logits are."""
    return NamedSharding(mesh, PartitionSpec(DATA, None, MODEL))


def of_parameters(mesh: Mesh, parameters: Any, *, shard_parameters_from: int = 0) -> Any:
    """Sharding of each parameter.

    Args:
      mesh: of the run.
      parameters: tree of arrays or of their shapes.
      shard_parameters_from: bytes from which a parameter is split over "data", on the largest axis that can
        be (FSDP); 0 for none. One without such an axis stays whole.

    Returns:
      A tree of the same structure.

    Raises:
      UserError: the classes cannot be split over "model".
    """
    data, model = mesh.shape[DATA], mesh.shape[MODEL]

    def sharding(path: tuple, leaf: Any) -> NamedSharding:
        axes: list[str | None] = [None] * leaf.ndim
        if model > 1 and tuple(getattr(key, "key", None) for key in path)[:2] == _CLASSIFIER:
            if leaf.shape[-1] % model:
                raise UserError(
                    f"mesh.model: {leaf.shape[-1]} classes cannot be split over {model} devices; "
                    f"choose a divisor of {leaf.shape[-1]}"
                )
            axes[-1] = MODEL
        large = 0 < shard_parameters_from <= math.prod(leaf.shape) * leaf.dtype.itemsize
        free = [axis for axis in range(leaf.ndim) if axes[axis] is None and leaf.shape[axis] % data == 0]
        if large and data > 1 and free:
            axes[max(free, key=lambda axis: leaf.shape[axis])] = DATA
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(sharding, parameters)


def of_optimizer(mesh: Mesh, state: Any, parameters: Any, shardings: Any) -> Any:
    """Sharding of each leaf of an optimiser's state: its parameter's, else whole.

    A leaf belongs to the parameter of its shape whose name its own name ends in.
    """
    known = {
        name: (leaf.shape, sharding)
        for (name, leaf), sharding in zip(named_leaves(parameters), jax.tree.leaves(shardings))
    }

    def sharding(name: str, leaf: Any) -> NamedSharding:
        while name:
            shape, found = known.get(name, (None, None))
            if shape == leaf.shape:
                return found
            name = name.partition(".")[2]
        return replicated(mesh)

    return jax.tree.unflatten(
        jax.tree.structure(state), [sharding(name, leaf) for name, leaf in named_leaves(state)]
    )


def gather_parameters(parameters: Any, shardings: Any) -> Any:
    """Parameters as a step computes with them: parts that lie along "data" are gathered.

    Their gradients are asked for in the parts' own shardings, so that XLA may return them by reduce-scatter.
    """

    def gather(parameter: jax.Array, sharding: NamedSharding, used: NamedSharding) -> jax.Array:
        if used == sharding:
            return parameter

        @jax.custom_vjp
        def whole(parameter):
            return jax.lax.with_sharding_constraint(parameter, used)

        whole.defvjp(
            lambda parameter: (whole(parameter), None),
            lambda _, gradient: (jax.lax.with_sharding_constraint(gradient, sharding),),
        )
        return whole(parameter)

    return jax.tree.map(gather, parameters, shardings, gathered_shardings(shardings))


def gathered_shardings(shardings: Any) -> Any:
    """Sharding of each parameter as a step computes with it: never split over "data"."""

    def used(sharding: NamedSharding) -> NamedSharding:
        axes = (None if axis == DATA else axis for axis in sharding.spec)
        return NamedSharding(sharding.mesh, PartitionSpec(*axes))

    return jax.tree.map(used, shardings)


def gather_rows(mesh: Mesh, rows: jax.Array) -> jax.Array:
    """Rows that are split over "data", whole on every device, by one all-gather."""
    # Without the first constraint XLA gathers what the rows were computed from.
    return jax.lax.with_sharding_constraint(
        jax.lax.with_sharding_constraint(rows, split_rows(mesh)), replicated(mesh)
    )


def put_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of the global batch (see `process_shard`), onto its devices."""
    return {k: jax.make_array_from_process_local_data(split_rows(mesh), v) for k, v in batch.items()}


def put_replicated(mesh: Mesh, tree: Any) -> Any:
    """The same arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


def process_shard(mesh: Mesh) -> tuple[int, int]:
    """(index, count): this process reads block `index` of `count` equal blocks of the batch's rows.

    Processes whose devices share rows, where "model" goes across them, read the same block.

    Raises:
      UserError: rows are spread over the processes in another way.
    """
    rows: dict[int, set[int]] = {}
    for row, devices in enumerate(mesh.devices):
        for device in devices:
            rows.setdefault(device.process_index, set()).add(row)
    held = rows[jax.process_index()]
    count = mesh.shape[DATA] // len(held)
    blocks = [set(range(i * len(held), (i + 1) * len(held))) for i in range(count)]
    if any(found not in blocks for found in rows.values()):
        raise UserError(
            f"mesh.model: {mesh.shape[MODEL]} does not fit {len(rows)} processes; choose a divisor or a "
            "multiple of the devices of one process"
        )
    return blocks.index(held), count
