"""Where an epoch's figures go: JSON lines and TensorBoard."""

from __future__ import annotations

import json
from typing import Any

from etils.epath import Path
from tensorboardX import SummaryWriter

from cdml_jax.errors import UserError
from cdml_jax.system import files


class Writers:
    """The log of one run: `metrics.jsonl` and TensorBoard events in `folder`.

    A run that resumes writes its history again, so that no epoch stands there twice.
    """

    def __init__(self, folder: Path, history: list[dict[str, Any]]):
        first = history[-1]["epoch"] + 1 if history else 0
        self._path = folder / "metrics.jsonl"
        self._lines = [json.dumps(entry) + "\n" for entry in history]
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first, flush_secs=30)
            except ImportError as error:  # of what a bucket needs
                raise UserError(f"{folder}: TensorBoard's files cannot be written there: {error}") from error
        self._write_lines()

    def write(self, entry: dict[str, Any]) -> None:
        """One epoch."""
        self._lines.append(json.dumps(entry) + "\n")
        self._write_lines()
        for name, value in entry.items():
            if isinstance(value, int | float) and name != "epoch":
                self._events.add_scalar(name, value, entry["epoch"])

    def _write_lines(self) -> None:
        # Whole each time: a bucket cannot append, and a log whose folder is gone does not begin elsewhere.
        files.write_text(self._path, "".join(self._lines))

    def close(self) -> None:
        """Flush both."""
        self._events.close()
