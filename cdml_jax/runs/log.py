"""Where an epoch's figures go: JSON lines and TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from cdml_jax.system.files import writing


class Writers:
    """The log of one run: `metrics.jsonl` and TensorBoard events in `folder`.

    A run that resumes writes its history again, so that no epoch stands there twice.
    """

    def __init__(self, folder: Path, history: list[dict[str, Any]]):
        first = history[-1]["epoch"] + 1 if history else 0
        self._path = folder / "metrics.jsonl"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._path.write_text("")
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first, flush_secs=30)
        for entry in history:
            self._append(entry)

    def write(self, entry: dict[str, Any]) -> None:
        """One epoch."""
        self._append(entry)
        for name, value in entry.items():
            if isinstance(value, int | float) and name != "epoch":
                self._events.add_scalar(name, value, entry["epoch"])

    def _append(self, entry: dict[str, Any]) -> None:
        # Not "a": a log whose folder is gone must not begin again somewhere else.
        with writing(self._path.parent), self._path.open("r+") as file:
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Flush both."""
        self._events.close()
