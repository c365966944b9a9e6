"""A step as the TPU's compiler sees it: memory of a chip by kind, operations, cycles, collectives."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from cdml_jax.configuration.settings import Settings
from cdml_jax.distributed.collectives import Collective, collectives
from cdml_jax.distributed.program_text import parse
from cdml_jax.runs.compile.cycles import Cycles, cycles_of
from cdml_jax.runs.memory import needs
from cdml_jax.training.program import Program

_BATCH, _ACTIVATIONS = "batch", "activations, gradients"
_GIB = 2**30
_USED = re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT])")
_TEMPORARIES = re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class DoesNotFit(Exception):  # noqa: N818 - it is an answer
    """The compiler found that a step needs more memory than a chip has.

    Attributes:
      needed, available: bytes.
    """

    def __init__(self, needed: float, available: float):
        super().__init__(f"{needed / _GIB:.2f} of {available / _GIB:.2f} GiB")
        self.needed, self.available = needed, available


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program, on each chip.

    Attributes:
      memory: bytes by kind; together they are the most that the step needs.
      flops: floating-point operations of a step.
      bytes: of HBM that a step reads and writes.
      cycles: the compiler's estimate.
      collectives: what crosses chips.
      processor_seconds: that tracing and compiling took here.
    """

    memory: dict[str, int]
    flops: float
    bytes: float
    cycles: Cycles
    collectives: tuple[Collective, ...]
    processor_seconds: float

    @property
    def needed(self) -> int:
        """Bytes of memory that a chip must have."""
        return sum(self.memory.values())

    @property
    def of_rows(self) -> int:
        """Bytes of memory that grow with the rows of a batch."""
        return sum(self.memory.get(kind, 0) for kind in (_BATCH, _ACTIVATIONS))


def compiled_step(program: Program[Settings]) -> Compiled:
    """Compile a program's step for its devices.

    Raises:
      DoesNotFit: a chip has too little memory.
    """
    arguments = program.abstract_state(), program.abstract_batch(), program.abstract_costs()
    found = needs(program)
    kinds = {kind: number for kind, number in found.kept.items() if number}
    return compiled(program.step, arguments, kinds | {_BATCH: found.step["batch"]})


def compiled(function: Any, arguments: tuple[Any, ...], kinds: dict[str, int]) -> Compiled:
    """Compile a jitted function for the devices of its arguments' shardings.

    Args:
      function: under `jax.jit`.
      arguments: shapes with shardings.
      kinds: bytes of the arguments on each device, by kind, without the layouts' padding.

    Raises:
      DoesNotFit: a chip has too little memory.
    """
    began = time.process_time()
    try:
        done = function.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        refused = does_not_fit(str(error))
        if refused is None:
            raise
        raise refused from error
    text = parse(done.as_text())
    planned, cost = done.memory_analysis(), done.cost_analysis()
    outputs = planned.output_size_in_bytes - planned.alias_size_in_bytes
    memory = {
        **kinds,
        "padding of these": max(planned.argument_size_in_bytes - sum(kinds.values()), 0),
        "outputs": outputs,
        _ACTIVATIONS: planned.temp_size_in_bytes,
        "program": planned.generated_code_size_in_bytes,
    }
    return Compiled(
        {kind: int(number) for kind, number in memory.items() if number},
        cost["flops"],
        cost["bytes accessed"],
        cycles_of(text),
        tuple(collectives(text)),
        time.process_time() - began,
    )


def does_not_fit(message: str) -> DoesNotFit | None:
    """What the compiler says of too little memory; None where it says something else.

    >>> does_not_fit("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.31G of 15.75G hbm.")
    DoesNotFit('20.31 of 15.75 GiB')
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    match = _USED.search(message) or _TEMPORARIES.search(message)
    if not match:
        return None
    needed, unit, available, its_unit = match.groups()
    return DoesNotFit(float(needed) * _UNITS[unit], float(available) * _UNITS[its_unit])
