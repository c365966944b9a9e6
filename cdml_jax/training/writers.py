"""Where an epoch's figures go: JSON lines and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


class Writers:
    """The log of one run: `metrics.jsonl` and TensorBoard events in `folder`.

    A run that resumes writes its history again, so that no epoch stands there twice.
    """

    def __init__(self, folder: Path, history: list[dict[str, Any]]):
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._path.write_text("")
        first = history[-1]["epoch"] + 1 if history else 0
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
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Flush both."""
        self._events.close()
