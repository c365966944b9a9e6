"""Calls timed in turn, in one process, for the benchmarks that stand beside other libraries."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax

ALL_SIDES = "the page shows all sides"  # so a result without one of them is not kept


def alternate(
    sides: dict[str, Callable[[], object]], *, repeats: int, most: float, turn: float = 0.1
) -> dict[str, list[float]]:
    """Seconds a call of each side, which waits for its result, taken in turn.

    Before, each is called twice. A side whose calls are shorter than `turn` seconds is called several times
    in a turn, after one call that is not timed, so that it does not pay for the caches its neighbour used.
    One that has used `most` seconds sits out from then on, and one whose first call took that long is not
    called again.
    """
    seconds: dict[str, list[float]] = {}
    calls = {}
    for name, side in sides.items():
        first = _call(side, 1)
        if first > most:
            seconds[name] = [first]
            continue
        seconds[name] = []
        calls[name] = max(1, round(turn / _call(side, 1)))
    for _ in range(repeats):
        for name in calls:
            if sum(seconds[name]) * calls[name] < most:
                if calls[name] > 1:
                    sides[name]()
                seconds[name].append(_call(sides[name], calls[name]))
    return seconds


def _call(side: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        side()
    return (time.perf_counter() - began) / times


def compare(peer: list[float], ours: list[float]) -> dict:
    """The peer's time over ours: the median over the turns that both took, and of the fastest of each.

    Quartiles are taken of three turns or more, else the smallest and the largest.
    """
    ratios = [one / other for one, other in zip(peer, ours)]
    quartiles = statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 2 else [min(ratios), max(ratios)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(q, 3) for q in quartiles],
        "best_ratio": round(min(peer) / min(ours), 3),
        "turns": len(ratios),
    }


def milliseconds(seconds: list[float]) -> float:
    """The median."""
    return round(1e3 * statistics.median(seconds), 3)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_devices() -> list[jax.Device]:
    """One accelerator, or all the devices that a processor is divided into."""
    return jax.devices() if jax.default_backend() == "cpu" else jax.devices()[:1]


def keep(result: dict, path: Path | None, missing: str = "") -> None:
    """Write the result as JSON, where a path is given; what is `missing` from it, if anything, forbids it."""
    if path and missing:
        print(f"{path} is left as it is: {missing}")
    elif path:
        path.write_text(json.dumps(result, indent=1) + "\n")


def missing_peers(cases: list[dict]) -> str:
    """Why cases must not be kept: a peer is not installed. "" where all are."""
    reasons = (reason for case in cases for reason in case["skipped"].values())
    return ALL_SIDES if any("not installed" in reason for reason in reasons) else ""


def machine() -> dict:
    """What the figures depend on; the load says how much else was going on."""
    return {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "cores": cores(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "jax": jax.__version__,
    }
