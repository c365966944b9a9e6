"""How long a step would take on a slice, by what was compiled and what is published; nothing is run.

    chip         = max(operations / peak, bytes / bandwidth, cycles / clock)
    a collective = max(bytes sent / (links · bytes a second of a link), hops · 1 µs)
    step         = max(chip + Σ collectives that wait, Σ collectives that overlap)

Operations and cycles are the compiler's, of one chip; bytes are those that the program moves between HBM
and the chip's own memory, read from its text (`Cycles.moved`). Bytes sent are those of a ring
(`Collective.sent`), over as many links as a ring uses in the slice (`Slice.links`). Hops lead from a chip to
the farthest and, in an all-reduce, back; where a group of neighbours takes part, links and hops are those of
its block (`Slice.block`). A collective that the compiler has made asynchronous overlaps with
computing; the others wait. Between slices, collectives cross the data centre's network, for which no
prediction is made.

A microsecond a hop and the larger of both times: Austin et al., "How to Scale Your Model" (2025), chapter 3,
https://jax-ml.github.io/scaling-book/sharding/. Links reach their published rates here, which is a bound.
"""

from __future__ import annotations

import dataclasses

from cdml_jax.distributed.collectives import Collective
from cdml_jax.runs.compile.compiled import Compiled
from cdml_jax.runs.compile.slices import Slice

HOP_SECONDS = 1e-6


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Seconds of a step by what they are for.

    Attributes:
      compute: operations over the chip's peak.
      memory: bytes of HBM over its bandwidth.
      cycles: the compiler's cycles over its clock: computing as it comes out, with waiting for memory inside
        of a fusion.
      waiting: of collectives for which the chip waits.
      overlapped: of collectives beside which it computes.
    """

    compute: float
    memory: float
    cycles: float
    waiting: float
    overlapped: float

    @property
    def chip(self) -> float:
        """Seconds of what a chip does by itself."""
        return max(self.compute, self.memory, self.cycles)

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return max(self.chip + self.waiting, self.overlapped)

    @property
    def binds(self) -> str:
        """Which resource a step waits for longest: compute, memory or interconnect."""
        computing = max(self.compute, self.cycles)
        crossing = max(self.waiting, self.overlapped)
        longest = max(computing, self.memory, crossing)
        return "compute" if longest == computing else "memory" if longest == self.memory else "interconnect"


def predicted(compiled: Compiled, where: Slice) -> Prediction:
    """The prediction for one step.

    Args:
      compiled: the step, compiled for `where`.
      where: the slice.
    """
    chip = where.chip
    times = [(one, seconds_of(one, where)) for one in compiled.collectives]
    return Prediction(
        compute=compiled.flops / chip.peak,
        memory=compiled.cycles.moved / chip.bandwidth,
        cycles=compiled.cycles.total(chip.bandwidth / chip.clock) / chip.clock,
        waiting=sum(seconds for one, seconds in times if not one.overlapped),
        overlapped=sum(seconds for one, seconds in times if one.overlapped),
    )


def seconds_of(one: Collective, where: Slice) -> float:
    """Seconds of a collective over all its runs in a step."""
    where = where.block(one.span)
    hops = where.hops * (2 if one.kind == "all-reduce" else 1)
    bytes_a_second = max(where.links, 1) * where.chip.link
    return max(one.sent / bytes_a_second, one.times * hops * HOP_SECONDS)
