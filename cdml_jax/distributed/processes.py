"""Several processes of one run: how they find each other, who speaks and writes, and how they agree."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from cdml_jax.distributed.failures import ending_together
from cdml_jax.errors import UserError

_ADDRESS = ("CDML_COORDINATOR", "CDML_NUM_PROCESSES", "CDML_PROCESS_ID")
_HEARTBEAT_SECONDS = (
    60  # JAX itself ends the others of a process that is gone for this long; failures.py is faster
)


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Joins the other processes of this run, if the environment speaks of any; they fail together."""
    connect()
    with ending_together():
        yield


def connect() -> None:
    """Join the other processes of this run if the environment speaks of any, before JAX looks for devices.

    `CDML_COORDINATOR` (host:port), `CDML_NUM_PROCESSES` and `CDML_PROCESS_ID` join by address;
    `CDML_DISTRIBUTED=auto` lets JAX find out by itself (TPU, Slurm, Open MPI, Kubernetes).

    Raises:
      UserError: one of the three is missing or no number, or the others cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    given = [name for name in _ADDRESS if os.environ.get(name)]
    automatic = os.environ.get("CDML_DISTRIBUTED", "")
    if automatic not in ("", "auto"):
        raise UserError(f"CDML_DISTRIBUTED: {automatic!r} is unknown; set auto, or leave it out")
    if not given and not automatic:
        return
    # JAX's own watch for preemption would swallow a SIGTERM that comes before this run listens.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if automatic:
            jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
            return
        missing = [name for name in _ADDRESS if name not in given]
        if missing:
            raise UserError(f"{given[0]} is set but {missing[0]} is not; joining by address needs all three")
        jax.distributed.initialize(
            os.environ["CDML_COORDINATOR"],
            num_processes=_number("CDML_NUM_PROCESSES"),
            process_id=_number("CDML_PROCESS_ID"),
            cluster_detection_method="deactivate",
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the other processes cannot be joined: {' '.join(str(error).split())}") from error


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise UserError(f"{name}: {text!r} is not a number")
    return int(text)


def is_first() -> bool:
    """Whether this process is the one that speaks and writes."""
    # A process alone is: JAX, asked for its number, would look for devices.
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Return when every process has come to `place`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def largest(value: int) -> int:
    """The largest of the values that the processes bring; each must call this at the same point."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))
