"""What a run needs on each device, from shapes and shardings alone, before anything is allocated."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.errors import UserError
from cdml_jax.runs.profiling import size
from cdml_jax.training.settings import TrainingSettings

if TYPE_CHECKING:
    from cdml_jax.training.program import Program


def bytes_per_device(tree: Any) -> int:
    """Bytes that each device holds of a tree, whose leaves have shape, dtype and sharding.

    >>> mesh = mesh_lib.make_mesh(8, devices=jax.devices()[:1])
    >>> bytes_per_device(jax.ShapeDtypeStruct((2, 3), "float32", sharding=mesh_lib.replicated(mesh)))
    24
    """
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes on each device by what they are for.

    Attributes:
      kept: there as long as the run is.
      step: there during a step, besides its activations, which only the compiler knows.
      evaluation: there while a split is evaluated or an epoch's counts are summed.
    """

    kept: dict[str, int]
    step: dict[str, int]
    evaluation: dict[str, int]

    @property
    def least(self) -> int:
        """What a device must have."""
        return sum(self.kept.values()) + max(sum(self.step.values()), sum(self.evaluation.values()))


def needs(program: Program[TrainingSettings]) -> Needs:
    """What a program's run needs on each device."""
    state, costs = program.abstract_state(), program.abstract_costs()
    apart = ("parameters", "optimizer", "averages", "counts")
    rest = {name: leaves for name, leaves in state._asdict().items() if name not in apart}
    gathered = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state.parameters,
        mesh_lib.gathered_shardings(program.shardings.parameters),
    )
    parameters = bytes_per_device(state.parameters)
    return Needs(
        kept={
            "parameters": parameters,
            "optimiser": bytes_per_device(state.optimizer),
            "moving averages": bytes_per_device(state.averages),
            "counts": bytes_per_device(state.counts),
            "class and pair weights": bytes_per_device(costs),
            "others": bytes_per_device(rest),
        },
        step={
            "gradients": parameters,
            "gathered parameters": bytes_per_device(gathered) - parameters,
            "batch": bytes_per_device(program.abstract_batch()),
        },
        evaluation={
            "evaluation": bytes_per_device(program.abstract_evaluation()),
        },
    )


def bytes_available(device: jax.Device) -> int | None:
    """What a device of this process has: an accelerator's memory, or a CPU device's share of what is free."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit or device.platform != "cpu":
        return limit
    free = _host_bytes_available()
    return None if free is None else free // jax.local_device_count()


def _host_bytes_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None  # not Linux: nothing tells what could be freed
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return free
    return min(free, int(limit)) if limit.isdecimal() else free


def what_runs_where(program: Program[TrainingSettings]) -> str:
    """Processes, devices, mesh, rows and bytes on each device, in two lines.

    Raises:
      UserError: a device has less than the run needs without any activations.
    """
    mesh, found = program.mesh, needs(program)
    data, model = mesh.shape[mesh_lib.DATA], mesh.shape[mesh_lib.MODEL]
    device = mesh.local_devices[0]
    parts = ", ".join(
        f"{name} {size(number)}"
        for name, number in (found.kept | found.step | found.evaluation).items()
        if number
    )
    has = bytes_available(device)
    if has is not None and found.least > has:
        raise UserError(
            f"the run does not fit: each device needs at least {size(found.least)} and has {size(has)} "
            f"({parts}); use more devices, mesh.model, "
            "mesh.shard_parameters_from or confusion.storage"
        )
    processes = {d.process_index for d in mesh.devices.flat}
    rows = program.config.batch_size // data
    return (
        f"{len(processes)} process{'es' if len(processes) > 1 else ''}, {mesh.size} x {device.device_kind}, "
        f"mesh {data} x {model} (data x model), {rows} of {program.config.batch_size} rows each.\n"
        f"Each device: {parts}; at least {size(found.least)}"
        + (f" of {size(has)}" if has is not None else "")
        + ", activations come on top."
    )
