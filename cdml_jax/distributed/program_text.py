"""The text of a compiled program, taken apart: computations, instructions, and how often each runs."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterator
from functools import cached_property

_HEADING = re.compile(r"^(?P<entry>ENTRY )?%?(?:(?P<name>[\w.-]+) (?:\(.*)?->.*\{|(?P<plain>[\w.-]+) \{)$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<result>\(.*?\)|\S+) (?P<operation>[a-z][\w-]*)\((?P<rest>.*)$"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?(?P<one>[\w.-]+)"
    r"|(?:branch_computations|called_computations)=\{(?P<several>[^}]*)\}"
)
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: of its result.
      result: type of the result, as XLA writes it.
      operation: such as `fusion`, `all-reduce-start`.
      rest: what follows the opening bracket: operands and attributes.
    """

    name: str
    result: str
    operation: str
    rest: str

    @property
    def shapes(self) -> tuple[str, ...]:
        """Of the arrays of its result: `("f32[64,128]",)`."""
        return tuple(re.findall(r"\w+\[[\d,]*\]", self.result))

    @property
    def bytes(self) -> int:
        """Of its result, without padding."""
        return sum(map(bytes_of, self.shapes))

    def main_memory_bytes(self, but: Collection[str] = ()) -> int:
        """Bytes of its result in the main memory, arrays of some shapes left out.

        A TPU's layouts mark arrays that lie elsewhere by S(1).
        """
        arrays = re.findall(r"(\w+\[[\d,]*\])(\{[^}]*\})?", self.result)
        return sum(bytes_of(shape) for shape, layout in arrays if "S(" not in layout and shape not in but)

    @cached_property
    def called(self) -> tuple[str, ...]:
        """Computations that it names, those of a loop's or a branch's too."""
        found: list[str] = []
        for match in _CALLED.finditer(self.rest):
            found += [match["one"]] if match["one"] else re.findall(r"[\w.-]+", match["several"])
        return tuple(found)

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of what it takes."""
        return tuple(re.findall(r"%([\w.-]+)", self.rest.partition(")")[0]))

    @property
    def trips(self) -> int | None:
        """How often a loop runs its body; None where XLA does not know, or where it is not a loop."""
        known = _TRIPS.search(self.rest) if self.operation == "while" else None
        return int(known[1]) if known else None

    @property
    def body(self) -> str:
        """The computation that a loop repeats; "" of what is not a loop."""
        body = re.search(r"body=%?([\w.-]+)", self.rest) if self.operation == "while" else None
        return body[1] if body else ""


@dataclasses.dataclass(frozen=True)
class ProgramText:
    """The computations of a program by their names, each in the order in which it runs.

    Attributes:
      computations: instructions by the name of their computation.
      entry: the name of the one that the program begins with.
      partitions: devices that run it together.
    """

    computations: dict[str, tuple[Instruction, ...]]
    entry: str
    partitions: int

    @cached_property
    def times(self) -> dict[str, int]:
        """How often each computation runs; a loop whose length is not known counts as one run."""
        callers: dict[str, list[tuple[str, int]]] = {}
        for caller, instruction in self.instructions():
            for called in instruction.called:
                often = (instruction.trips or 1) if called == instruction.body else 1
                callers.setdefault(called, []).append((caller, often))

        def runs(name: str) -> int:
            return max((often * runs(caller) for caller, often in callers.get(name, [])), default=1)

        return {name: runs(name) for name in self.computations}

    def instructions(self) -> Iterator[tuple[str, Instruction]]:
        """All of them, each with the name of its computation."""
        for name, instructions in self.computations.items():
            for instruction in instructions:
                yield name, instruction


def parse(text: str) -> ProgramText:
    """Take the text of a compiled program apart (`jit(f).lower(…).compile().as_text()`).

    >>> program = parse('''HloModule jit_f, num_partitions=8
    ...
    ... ENTRY %main (p: f32[8]) -> f32[64] {
    ...   %p = f32[8]{0} parameter(0)
    ...   ROOT %g = f32[64]{0} all-gather(%p), replica_groups=[1,8]<=[8]
    ... }''')
    >>> [(i.operation, i.bytes, i.operands) for i in program.computations["main"]]
    [('parameter', 32, ()), ('all-gather', 256, ('p',))]
    >>> program.entry, program.partitions
    ('main', 8)
    """
    computations: dict[str, list[Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            name = heading["name"] or heading["plain"]
            entry = name if heading["entry"] else entry
        elif match := _INSTRUCTION.match(line):
            computations.setdefault(name, []).append(Instruction(**match.groupdict()))
    partitions = re.search(r"num_partitions=(\d+)", text.partition("\n\n")[0])
    return ProgramText(
        {name: tuple(found) for name, found in computations.items()},
        entry,
        int(partitions[1]) if partitions else 1,
    )


def bytes_of(shape: str) -> int:
    """Bytes of an array as XLA writes its shape, without padding.

    >>> bytes_of("bf16[2,3]"), bytes_of("s32[]"), bytes_of("f8e4m3fn[5]"), bytes_of("pred[7]")
    (12, 4, 5, 7)
    """
    name, _, sizes = shape.rstrip("]").partition("[")
    number = math.prod(int(size) for size in sizes.split(",") if size)
    bits = _BITS[name] if name in _BITS else int(re.findall(r"\d+", name)[0])  # s32, f32, f8e4m3fn
    return math.ceil(number * bits / 8)
