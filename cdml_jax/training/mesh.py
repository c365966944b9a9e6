"""Where arrays live: the one file that names devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cdml_jax.errors import UserError

DATA = "data"


def make_mesh(batch_size: int, accumulation: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh of the devices (all, if None) along ("data",), checked against the global batch.

    Raises:
      UserError: the devices do not divide the batch.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % (len(devices) * accumulation):
        parts = f"{len(devices)} devices" + (f" x {accumulation} microbatches" if accumulation > 1 else "")
        raise UserError(
            f"batch_size: {batch_size} rows cannot be split over {parts}; "
            f"choose a multiple of {len(devices) * accumulation}"
        )
    return Mesh(np.array(devices), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of the global batch, onto its devices."""
    return {k: jax.make_array_from_process_local_data(by_row(mesh), v) for k, v in batch.items()}


def put_replicated(mesh: Mesh, tree: Any) -> Any:
    """The same arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


def process_shard() -> tuple[int, int]:
    """(index, count) of this process among those that share the data."""
    return jax.process_index(), jax.process_count()
