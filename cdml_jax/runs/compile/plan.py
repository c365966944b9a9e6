"""From the time of a step to that of an epoch, of the run, and its price; what the hosts must prepare."""

from __future__ import annotations

import math
from typing import Any

from cdml_jax.configuration.settings import Settings
from cdml_jax.runs.compile.compiled import Compiled
from cdml_jax.runs.compile.prediction import predicted
from cdml_jax.runs.compile.slices import Slice


def planned(
    config: Settings,
    compiled: Compiled,
    where: Slice,
    *,
    speed: float | None,
    steps: int,
    price: float | None,
) -> dict[str, Any]:
    """What a run would take on a slice.

    The step takes the longer of what the slice needs (`prediction`) and what the hosts need to prepare its
    images: rows / (hosts · threads · images a second of a core). Training steps alone are counted: no
    evaluation, no saving, no start.

    Args:
      config: of the run.
      compiled: its step.
      where: the slice.
      speed: images a second that one core prepares; None where none are prepared.
      steps: of an epoch.
      price: of a chip for an hour, or None.
    """
    prediction = predicted(compiled, where)
    alone = prediction.step
    rows, hosts, threads = config.batch_size, where.hosts, max(config.data.num_threads, 1)
    feeding = rows / (hosts * threads * speed) if speed else 0.0
    step = max(alone, feeding)
    hours = step * steps * config.epochs / 3600
    needed = rows / alone / hosts
    return {
        "binds": "input" if feeding > alone else prediction.binds,
        "step_ms": round(1e3 * step, 3),
        "images_a_second": round(rows / step),
        "input_ms": round(1e3 * feeding, 3),
        "images_a_second_of_a_host": round(needed),
        "images_a_second_of_a_core": None if speed is None else round(speed),
        "threads": config.data.num_threads,
        "threads_needed": math.ceil(needed / speed) if speed else 0,
        "steps_of_an_epoch": steps,
        "epochs": config.epochs,
        "epoch_seconds": round(step * steps, 2),
        "run_hours": round(hours, 6),
        "price": None if price is None else round(hours * where.chips * price, 2),
        "price_of_a_chip_hour": price,
        "share_of_peak": round(compiled.flops / where.chip.peak / step, 4),
    }
