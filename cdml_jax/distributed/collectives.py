"""What crosses devices in a compiled program, read from XLA's text: kinds, numbers, bytes, overlap."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from cdml_jax.distributed.program_text import Instruction, ProgramText, bytes_of, parse

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      shapes: of its results on one device, as XLA writes them: `("f32[64,128]",)`.
      bytes: of those results.
      devices: how many take part together.
      times: how often it runs in a run of the program; 1 where a loop's length is not known.
      operation: what of the traced program it came from.
      overlapped: whether it is asynchronous, so that the device can compute while it is under way.
      span: places from the first to the last device of those that take part together, both counted; as many
        as `devices` where they are neighbours. 0 where that is not known, as of a permute.
    """

    kind: str
    shapes: tuple[str, ...]
    bytes: int
    devices: int
    times: int
    operation: str
    overlapped: bool = False
    span: int = 0

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


def collectives(compiled: str | ProgramText) -> list[Collective]:
    """The collectives in the text of a compiled program (`jit(f).lower(…).compile().as_text()`).

    An asynchronous one is counted once, by its result: at its start, or where a TPU's program spreads it over
    several fusions, at the first of them. Those of groups of one device are left out.

    >>> text = '''
    ... ENTRY %main (p: f32[8]) -> f32[64] {
    ...   ROOT %g = f32[64]{0} all-gather(%p), replica_groups=[1,8]<=[8], metadata={op_name="jit(f)/gather"}
    ... }'''
    >>> collectives(text)[0]._replace(shapes=())
    Collective(kind='all-gather', shapes=(), bytes=256, devices=8, times=1, operation='jit(f)/gather', \
overlapped=False, span=8)
    """
    program = parse(compiled) if isinstance(compiled, str) else compiled
    found, spread = [], set()
    for computation, instruction in program.instructions():
        kind = instruction.operation.removesuffix("-start")
        group = _group(instruction.rest, program.partitions) if kind in KINDS else []
        if len(group) <= 1:
            continue
        start = kind != instruction.operation
        pieces = "async_collective_fusion_config" in instruction.rest
        if pieces:  # a start, steps beside other work and an end, all of one channel
            channel = kind, re.search(r"channel_id=(\d+)|$", instruction.rest)[0]  # type: ignore[index]
            if channel in spread:
                continue
            spread.add(channel)
        shapes = _results(instruction, kind, start)
        operation = re.search(r'op_name="([^"]*)"', instruction.rest)
        found.append(
            Collective(
                kind,
                shapes,
                sum(map(bytes_of, shapes)),
                len(group),
                program.times[computation],
                operation[1] if operation else "",
                start or pieces,
                max(group) - min(group) + 1 if kind != "collective-permute" else 0,
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


def _results(instruction: Instruction, kind: str, start: bool) -> tuple[str, ...]:
    shapes = instruction.shapes
    if not start or kind == "all-reduce":
        return shapes
    # A start gives its operands too, then its results; a permute adds two words of its own.
    if kind == "collective-permute":
        shapes = tuple(shape for shape in shapes if shape not in ("u32[]", "s32[]"))
    return shapes[len(shapes) // 2 :]


def _group(text: str, partitions: int) -> list[int]:
    """Places of the devices of the first group: {{0,2},{1,3}}, [2,2]<=[2,2]T(1,0), mesh['x'=2,'y'=2] {'y'}.

    {} are all devices. A permute has pairs in the place of groups: two devices, wherever they are.
    """
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return [int(place) for place in listed[1].split(",")]
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        places = np.arange(math.prod(_numbers(iota[2]))).reshape(_numbers(iota[2]))
        return places.transpose(_numbers(iota[3]) if iota[3] else None).ravel()[: int(iota[1])].tolist()
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", text):
        axes = [(name, int(size)) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])]
        # An axis whole, or a part of it: 'x':(2)4 are the four that follow a first part of two.
        named = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", mesh[2])
        parts = {name: (int(before or 1), int(size or dict(axes)[name])) for name, before, size in named}
        sizes: list[int] = []
        kept: list[Any] = []
        for name, size in axes:
            before, inside = parts.get(name, (1, 1))
            sizes += [before, inside, size // (before * inside)]
            kept += [0, slice(None), 0]
        return np.arange(math.prod(sizes)).reshape(sizes)[tuple(kept)].ravel().tolist()
    return list(range(2 if "source_target_pairs={{" in text else partitions))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
