"""The best epoch by validation: its network is kept next to the last one, and may end a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etils.epath import Path

from cdml_jax.runs.checkpoint import Checkpoints, Run

FOLDER = "best"
_ACCURACY = "validation_accuracy"


def best_of(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first entry of the highest validation accuracy; None where none was evaluated.

    >>> best_of([{"epoch": 1, _ACCURACY: 0.5}, {"epoch": 2}, {"epoch": 3, _ACCURACY: 0.5}])["epoch"]
    1
    """
    evaluated = [entry for entry in history if _ACCURACY in entry]
    return max(evaluated, key=lambda entry: entry[_ACCURACY], default=None)


def waited_enough(history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether the last `patience` looks at the validation split have seen nothing better than one before.

    >>> looks = [{_ACCURACY: accuracy} for accuracy in (0.5, 0.7, 0.7, 0.6)]
    >>> [waited_enough(looks[:number], 2) for number in (2, 3, 4)], waited_enough(looks, 0)
    ([False, False, True], False)

    Args:
      history: one entry an epoch.
      patience: 0 waits for ever.
    """
    evaluated = [entry for entry in history if _ACCURACY in entry]
    best = best_of(evaluated)
    return patience > 0 and best is not None and len(evaluated) - 1 - evaluated.index(best) >= patience


class Best:
    """Keeps the network of the best epoch so far in `folder`/best: what its use needs, not the optimiser."""

    def __init__(self, folder: Path):
        self._checkpoints = Checkpoints(folder / FOLDER, keep=1)
        self._checkpoints.remove_half_written()

    def keep(self, run: Run) -> None:
        """Save the network if the epoch that has just ended is the best.

        Raises:
          UserError: it cannot be written.
        """
        last = run.history[-1]
        if best_of(run.history) is not last:
            return
        state = run.state
        used: dict[str, Any] = (
            {"averages": state.averages}
            if state.averages
            else {"parameters": state.parameters, "batch_statistics": state.batch_statistics}
        )
        self._checkpoints.forget_after(int(state.step))  # of a run that was killed, and may end otherwise
        about = {"epoch": run.epoch, _ACCURACY: last[_ACCURACY]}
        self._checkpoints.write(int(state.step), {"state": used, "counts": run.counts.arrays}, about)

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
          UserError: it cannot be.
        """
        self._checkpoints.close()
