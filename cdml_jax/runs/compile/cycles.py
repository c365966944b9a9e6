"""The TPU compiler's own estimate of a program's cycles, read from its text, and what it has no estimate of."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

from cdml_jax.distributed.collectives import KINDS
from cdml_jax.distributed.program_text import Instruction, ProgramText

LEAST = 1_830  # cycles that the compiler gives the smallest of its fusions
_ESTIMATE = re.compile(r'"estimated_cycles":"(\d+)"')
# They only name what is there, or run beside others: the copies' bytes are among those of the memory.
_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id"),
    *("replica-id", "opt-barrier", "copy-start", "copy-done", "slice-start", "slice-done"),
    *("async-start", "async-update", "async-done", "domain"),
}
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "Sharding", "AssumeGatherIndicesInBound")


@dataclasses.dataclass(frozen=True)
class Cycles:
    """Cycles of one run of a program on one chip, without collectives.

    Attributes:
      estimated: the sum of the compiler's estimates.
      without: operations without an estimate, scalars aside, by kind: how often they run.
      without_bytes: bytes that these read and write.
      unknown_loops: loops whose length the compiler does not know, counted as one run each.
    """

    estimated: int
    without: dict[str, int]
    without_bytes: int
    unknown_loops: int

    def total(self, bytes_a_cycle: float) -> float:
        """Cycles with a share for what has no estimate: `LEAST` an operation, or its bytes if they take longer.

        `estimated` + max(`LEAST` · operations, bytes / (bytes of HBM a cycle)).
        """
        rest = max(LEAST * sum(self.without.values()), self.without_bytes / bytes_a_cycle)
        return self.estimated + rest


def cycles_of(program: ProgramText) -> Cycles:
    """The cycles of a program's text.

    A loop's body counts as often as it runs; of a condition's branches the longest counts. A fusion has one
    estimate for all that is fused in it.

    >>> from cdml_jax.distributed.program_text import parse
    >>> cycles_of(parse('''ENTRY %main (p: f32[8]) -> f32[8] {
    ...   %p = f32[8]{0} parameter(0)
    ...   %f = f32[8]{0} fusion(%p), calls=%g, backend_config={"estimated_cycles":"1900"}
    ...   ROOT %s = f32[8]{0} sort(%f)
    ... }'''))
    Cycles(estimated=1900, without={'sort': 1}, without_bytes=64, unknown_loops=0)
    """
    return _Sum(program).of(program.entry)


class _Sum:
    def __init__(self, program: ProgramText):
        self.program = program
        self.known: dict[str, Cycles] = {}

    def of(self, name: str) -> Cycles:
        """Of one run of a computation."""
        if name not in self.known:
            sizes: dict[str, int] = {}
            total = Cycles(0, {}, 0, 0)
            for instruction in self.program.computations.get(name, ()):
                sizes[instruction.name] = instruction.bytes
                total = _added(total, self._of_one(instruction, sizes), 1)
            self.known[name] = total
        return self.known[name]

    def _of_one(self, one: Instruction, sizes: dict[str, int]) -> Cycles:
        nothing = Cycles(0, {}, 0, 0)
        if found := _ESTIMATE.search(one.rest):
            return Cycles(int(found[1]), {}, 0, 0)
        if one.operation == "while":
            several = nothing
            for name in one.called:
                several = _added(several, self.of(name), one.trips or 1)
            return dataclasses.replace(
                several, unknown_loops=several.unknown_loops + (one.trips is None)
            )
        if one.operation == "conditional":
            return max(map(self.of, one.called), key=lambda branch: branch.total(1e9), default=nothing)
        if one.operation == "call":
            return self.of(one.called[0]) if one.called else nothing
        kind = one.operation
        target = re.search(r'custom_call_target="(\w+)"', one.rest)
        if kind == "custom-call" and target:
            kind = target[1]
        collective = kind.removesuffix("-start").removesuffix("-done") in KINDS or "async-collective" in one.name
        if kind in (*_FREE, *_FREE_CALLS) or collective or one.bytes <= 8:
            return nothing
        if kind == "fusion":  # named after what is fused: gather_fusion.15
            kind = re.sub(r"(_fusion)?(\.\d+)*$", "", one.name) or kind
        moved = one.bytes + sum(sizes.get(name, 0) for name in dict.fromkeys(one.operands))
        if kind.startswith(("gather", "scatter")):
            moved = 2 * one.bytes  # the rows that are taken or changed, not the table
        return Cycles(0, {kind: 1}, moved, 0)


def _added(a: Cycles, b: Cycles, times: int) -> Cycles:
    without = Counter(a.without)
    for kind, number in b.without.items():
        without[kind] += number * times
    return Cycles(
        a.estimated + b.estimated * times,
        dict(without),
        a.without_bytes + b.without_bytes * times,
        a.unknown_loops + b.unknown_loops * times,
    )
