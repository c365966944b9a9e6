"""The largest batch that fits a slice, in at most three compilations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cdml_jax.runs.compile.compiled import Compiled, DoesNotFit

_TRIES = 3
_SPARE = 0.97  # of the memory: what a row takes is not quite the same at every batch


class Try(NamedTuple):
    """One compilation.

    Attributes:
      batch: rows of it.
      needed: bytes of a chip.
      compiled: None where it does not fit.
    """

    batch: int
    needed: float
    compiled: Compiled | None


def attempt(compile_for: Callable[[int], Compiled], batch: int) -> Try:
    """One compilation, or what the compiler says of too little memory."""
    try:
        found = compile_for(batch)
    except DoesNotFit as refused:
        return Try(batch, refused.needed, None)
    return Try(batch, found.needed, found)


def largest_batch(
    compile_for: Callable[[int], Compiled], batch: int, *, step: int, fixed: float, usable: float, most: int
) -> list[Try]:
    """Compilations whose last that fits is of the largest batch found.

    Memory is taken to grow by the same bytes with every row: after one compilation from what its kinds say,
    after two from the line through both.

    Args:
      compile_for: compiles for a batch; raises `DoesNotFit`.
      batch: to begin with.
      step: what a batch must be a multiple of.
      fixed: bytes of a chip that do not depend on the batch, as far as they are known before.
      usable: bytes of a chip.
      most: rows that there are.
    """
    tries: list[Try] = []
    while len(tries) < _TRIES:
        tries.append(attempt(compile_for, batch))
        following = _next(tries, step, fixed, usable, most)
        if not following or following in {one.batch for one in tries}:
            break
        batch = following
    return tries


def _next(tries: list[Try], step: int, fixed: float, usable: float, most: int) -> int:
    """The batch to try now; 0 where none is left between the largest that fits and the least that fails."""
    points = sorted((one.batch, one.needed) for one in tries)
    first, last = points[0], points[-1]
    if len(points) == 1:
        only = tries[0].compiled
        base = max(fixed, only.needed - only.of_rows) if only is not None and only.of_rows else fixed
        slope = (first[1] - base) / first[0]
    else:
        slope = (last[1] - first[1]) / (last[0] - first[0])
        base = first[1] - slope * first[0]
    if slope <= 0:
        return 0
    wanted = int((_SPARE * usable - base) / slope)
    below = max((one.batch for one in tries if one.compiled is not None), default=0)
    above = min((one.batch for one in tries if one.compiled is None), default=most + 1)
    wanted = min(wanted, above - 1, most) // step * step
    return wanted if wanted > below else 0
