"""What a compilation says, as plain numbers: for JSON, for tests that hold them, for the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax

from cdml_jax.distributed.collectives import Collective, summary
from cdml_jax.runs.compile.compiled import Compiled
from cdml_jax.runs.compile.prediction import predicted
from cdml_jax.runs.compile.slices import Slice, compiler_version


def record(compiled: Compiled, where: Slice) -> dict[str, Any]:
    """Numbers of a compiled step: `compiled` are the compiler's, `predicted` follow from them.

    Args:
      compiled: the step.
      where: the slice that it was compiled for.
    """
    seconds = predicted(compiled, where)
    cycles = compiled.cycles
    waiting = [one for one in compiled.collectives if not one.overlapped]
    return {
        "topology": where.name,
        "chips": where.chips,
        "compiled": {
            "memory_bytes": compiled.memory,
            "needed_bytes": compiled.needed,
            "usable_bytes": int(where.chip.usable),
            "flops": int(compiled.flops),
            "cycles": cycles.estimated,
            "operations_without_cycles": dict(sorted(cycles.without.items())),
            "bytes_without_cycles": cycles.without_bytes,
            "loops_of_unknown_length": cycles.unknown_loops,
            "hbm_bytes": cycles.moved,
            "bytes_accessed": int(compiled.bytes),
            "collectives": summary(compiled.collectives),
            "collectives_that_wait": summary(waiting),
            "crossing": _alike(compiled.collectives),
        },
        "predicted": {
            "compute_ms": _ms(seconds.compute),
            "memory_ms": _ms(seconds.memory),
            "cycles_ms": _ms(seconds.cycles),
            "interconnect_waiting_ms": _ms(seconds.waiting),
            "interconnect_overlapped_ms": _ms(seconds.overlapped),
            "step_ms": _ms(seconds.step),
            "binds": seconds.binds,
        },
        "processor_seconds": round(compiled.processor_seconds, 1),
        "jax": jax.__version__,
        "libtpu": compiler_version(),
    }


def _alike(found: Iterable[Collective]) -> list[dict[str, Any]]:
    """Collectives of one kind and size together, in the order in which the first of each runs.

    `span` stands where the devices that take part together are not neighbours.
    """
    alike = Counter(
        (one.kind, one.bytes, one.devices, one.overlapped, one.span)
        for one in found
        for _ in range(one.times)
    )
    keys = "kind", "bytes", "devices", "overlapped"
    return [
        dict(zip(keys, each)) | ({} if span in (0, each[2]) else {"span": span}) | {"number": number}
        for (*each, span), number in alike.items()
    ]


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 4)
