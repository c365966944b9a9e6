"""What crosses devices in a compiled program, read from XLA's text: kinds, numbers and bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
_INSTRUCTION = re.compile(
    rf"^\s*(?:ROOT )?%?[\w.-]+ = (?P<result>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\((?P<rest>.*)$"
)
_COMPUTATION = re.compile(
    r"^(?:ENTRY )?%?(?P<name>[\w.-]+) (?:\(.*)?->.*\{$|^(?:ENTRY )?%?(?P<plain>[\w.-]+) \{$"
)
_WHILE = re.compile(r" while\(.*body=%?(?P<body>[\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)"
    r"|(?:branch_computations|called_computations)=\{([^}]*)\}"
)


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      shapes: of its results on one device, as XLA writes them: `("f32[64,128]",)`.
      bytes: of those results.
      devices: how many take part together.
      times: how often it runs in a run of the program; 1 where a loop's length is not known.
      operation: what of the traced program it came from.
    """

    kind: str
    shapes: tuple[str, ...]
    bytes: int
    devices: int
    times: int
    operation: str

    @property
    def sent(self) -> float:
        """Bytes that each device sends, over all its runs, where the devices form a ring.

        All-reduce: 2 (N − 1) / N times its bytes. All-gather and all-to-all: (N − 1) / N times.
        Reduce-scatter, whose result is a share: (N − 1) times. Permute: its bytes.

        Source: Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in
        MPICH" (2005), sections 4.1 to 4.5.
        """
        n = self.devices
        factor = {
            "all-reduce": 2 * (n - 1) / n,
            "all-gather": (n - 1) / n,
            "reduce-scatter": n - 1,
            "all-to-all": (n - 1) / n,
            "collective-permute": 1,
        }[self.kind]
        return factor * self.bytes * self.times


def collectives(compiled: str) -> list[Collective]:
    """The collectives in the text of a compiled program (`jit(f).lower(…).compile().as_text()`).

    An asynchronous one is counted once, at its start, by its result. Those of groups of one device are left
    out.

    >>> text = '''
    ... ENTRY %main (p: f32[8]) -> f32[64] {
    ...   ROOT %g = f32[64]{0} all-gather(%p), replica_groups=[1,8]<=[8], metadata={op_name="jit(f)/gather"}
    ... }'''
    >>> collectives(text)[0]._replace(shapes=())
    Collective(kind='all-gather', shapes=(), bytes=256, devices=8, times=1, operation='jit(f)/gather')
    """
    lines = compiled.splitlines()
    times = _times(lines)
    named = re.search(r"num_partitions=(\d+)", lines[0]) if lines else None
    partitions = int(named[1]) if named else 1
    found = []
    computation = ""
    for line in lines:
        if heading := _COMPUTATION.match(line):
            computation = heading["name"]
        if match := _INSTRUCTION.match(line):
            shapes = _results(match["result"], match["kind"], bool(match["start"]))
            devices = _group_size(match["rest"], partitions)
            operation = re.search(r'op_name="([^"]*)"', line)
            if devices > 1:
                found.append(
                    Collective(
                        match["kind"],
                        shapes,
                        sum(map(_bytes, shapes)),
                        devices,
                        times.get(computation, 1),
                        operation[1] if operation else "",
                    )
                )
    return found


def summary(found: Iterable[Collective]) -> dict[str, dict[str, int]]:
    """Number and result bytes of each kind that occurs, over all runs of loops.

    >>> summary([Collective("all-reduce", ("f32[2]",), 8, 4, 3, "")])
    {'all-reduce': {'number': 3, 'bytes': 24}}
    """
    total: dict[str, dict[str, int]] = {}
    for one in found:
        entry = total.setdefault(one.kind, {"number": 0, "bytes": 0})
        entry["number"] += one.times
        entry["bytes"] += one.times * one.bytes
    return {kind: total[kind] for kind in KINDS if kind in total}


def _results(text: str, kind: str, start: bool) -> tuple[str, ...]:
    shapes = tuple(re.findall(r"\w+\[[\d,]*\]", text))
    if not start or kind == "all-reduce":
        return shapes
    # A start gives its operands too, then its results; a permute adds two words of its own.
    if kind == "collective-permute":
        shapes = tuple(shape for shape in shapes if shape not in ("u32[]", "s32[]"))
    return shapes[len(shapes) // 2 :]


def _bytes(shape: str) -> int:
    name, _, sizes = shape.rstrip("]").partition("[")
    number = math.prod(int(size) for size in sizes.split(",") if size)
    bits = _BITS.get(name) or int(re.findall(r"\d+", name)[0])  # s32, f32, f8e4m3fn
    return math.ceil(number * bits / 8)


def _group_size(text: str, partitions: int) -> int:
    """Devices of a group: {{0,1},{2,3}}, [2,2]<=[4], mesh['x'=2,'y'=2] {'y'}; {} is all of them."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(listed[1].split(","))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", text):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    return 2 if "source_target_pairs={{" in text else partitions


def _times(lines: list[str]) -> dict[str, int]:
    """How often each computation inside a loop of known length runs; others are left out."""
    inside: dict[str, list[tuple[str, int]]] = {}
    computation = ""
    for line in lines:
        if heading := _COMPUTATION.match(line):
            computation = heading["name"]
        loop, trips = _WHILE.search(line), _TRIPS.search(line)
        for one, several in _CALLED.findall(line):
            for called in (one, *re.findall(r"[\w.-]+", several)):
                if called:
                    often = int(trips[1]) if loop and trips and called == loop["body"] else 1
                    inside.setdefault(called, []).append((computation, often))

    def runs(name: str) -> int:
        return max((often * runs(caller) for caller, often in inside.get(name, [])), default=1)

    return {name: runs(name) for name in inside}
