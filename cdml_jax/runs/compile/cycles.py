"""The TPU compiler's own estimate of a program's cycles, and what it has no estimate of."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

from cdml_jax.distributed.collectives import KINDS
from cdml_jax.distributed.program_text import Instruction, ProgramText, bytes_of

LEAST = 1_830  # cycles that the compiler gives the smallest of its fusions
_ESTIMATE = re.compile(r'"estimated_cycles":"(\d+)"')
# They only name what is there, or run beside others.
_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id"),
    *("replica-id", "opt-barrier", "copy-done", "slice-done", "async-update", "async-done", "collective"),
    *("AllocateBuffer", "ConcatBitcast", "Sharding", "AssumeGatherIndicesInBound"),
}
_SCALARS = 8  # bytes: the scalar unit computes them beside the others


@dataclasses.dataclass(frozen=True)
class Cycles:
    """Cycles of one run of a program on one chip, without collectives.

    Attributes:
      estimated: the sum of the compiler's estimates.
      without: operations without an estimate, scalars aside, by kind: how often they run.
      without_bytes: bytes that these read and write.
      moved: bytes that all operations read from HBM and write to it: operands and results that the compiler
        has not placed in the chip's own memory. Of a table from which rows are gathered, the rows; without
        what a collective brings meanwhile.
      unknown_loops: loops whose length the compiler does not know, counted as one run each.
    """

    estimated: int
    without: dict[str, int]
    without_bytes: int
    moved: int
    unknown_loops: int

    def total(self, bytes_a_cycle: float) -> float:
        """Cycles, with `LEAST` for each operation without an estimate, or their bytes if they take longer.

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
    Cycles(estimated=1900, without={'sort': 1}, without_bytes=64, moved=128, unknown_loops=0)
    """
    return _Sum(program).of(program.entry)


_NOTHING = Cycles(0, {}, 0, 0, 0)


class _Sum:
    def __init__(self, program: ProgramText):
        self.program = program
        self.known: dict[str, Cycles] = {}

    def of(self, name: str) -> Cycles:
        """Of one run of a computation."""
        if name not in self.known:
            before: dict[str, Instruction] = {}
            total = _NOTHING
            for instruction in self.program.computations.get(name, ()):
                before[instruction.name] = instruction
                total = _added(total, self._of_one(instruction, before), 1)
            self.known[name] = total
        return self.known[name]

    def _of_one(self, one: Instruction, before: dict[str, Instruction]) -> Cycles:
        if one.operation == "while":
            several = _NOTHING
            for name in one.called:
                several = _added(several, self.of(name), one.trips or 1)
            return dataclasses.replace(several, unknown_loops=several.unknown_loops + (one.trips is None))
        if one.operation == "conditional":
            return max(map(self.of, one.called), key=lambda branch: branch.total(1e9), default=_NOTHING)
        if one.operation == "call":
            return self.of(one.called[0]) if one.called else _NOTHING
        kind = _kind(one)
        if kind in _FREE:
            return _NOTHING
        operands = [before[name] for name in dict.fromkeys(one.operands) if name in before]
        carried = self._carried(one)
        moved = sum(each.main_memory_bytes(carried) for each in (one, *operands))
        if kind in ("copy-start", "slice-start"):  # its result names both sides
            return dataclasses.replace(_NOTHING, moved=_smaller_side(one))
        if kind.startswith(("gather", "scatter")):
            moved = 2 * one.main_memory_bytes()
        if found := _ESTIMATE.search(one.rest):
            return Cycles(int(found[1]), {}, 0, moved, 0)
        if one.bytes <= _SCALARS:
            return _NOTHING
        read = one.bytes + sum(o.bytes for o in operands)
        read = 2 * one.bytes if kind.startswith(("gather", "scatter")) else read
        return Cycles(0, {kind: 1}, read, moved, 0)

    def _carried(self, one: Instruction) -> set[str]:
        """Shapes of what a collective brings beside an operation that a fusion computes: none of its own."""
        inside = [each for name in one.called for each in self.program.computations.get(name, ())]
        under_way = [each for each in inside if each.operation in KINDS]
        taken = {name for each in under_way for name in each.operands}
        return {shape for each in inside if each in under_way or each.name in taken for shape in each.shapes}


def _kind(one: Instruction) -> str:
    """What an operation is, for a list: a custom call's target, a fusion's name without its number."""
    if one.operation == "custom-call":
        target = re.search(r'custom_call_target="(\w+)"', one.rest)
        return target[1] if target else one.operation
    if one.operation.removesuffix("-start").removesuffix("-done") in KINDS or "async-collective" in one.name:
        return "collective"
    if one.operation == "fusion":
        return re.sub(r"(_fusion)?(\.\d+)*$", "", one.name) or one.operation
    return one.operation


def _smaller_side(one: Instruction) -> int:
    """Bytes of a copy between two memories: of its result, which may be a part of what it is taken from."""
    return min((bytes_of(shape) for shape in one.shapes if "[]" not in shape), default=0)


def _added(a: Cycles, b: Cycles, times: int) -> Cycles:
    without = Counter(a.without)
    for kind, number in b.without.items():
        without[kind] += number * times
    return Cycles(
        a.estimated + b.estimated * times,
        dict(without),
        a.without_bytes + b.without_bytes * times,
        a.moved + b.moved * times,
        a.unknown_loops + b.unknown_loops * times,
    )
