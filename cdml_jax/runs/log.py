"""Where an epoch's figures go: JSON lines, TensorBoard and, by a key, a tracker."""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

from etils.epath import Path
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from cdml_jax.runs.live import opened
from cdml_jax.system import buckets, console, files
from cdml_jax.system.buckets import in_bucket

_EVENTS = "events.out.tfevents."


class Writers:
    """The log of one run: `metrics.jsonl` and TensorBoard events in `folder`, whole after every epoch.

    A run that begins or continues writes its history again, in both: what a kill took is there, and no epoch
    stands there twice. A warm-up that was trained elsewhere is in it.

    Args:
      folder: the run's.
      history: an entry for each epoch that it has trained.
      kept: whether epochs of the log that have no checkpoint are lost, which a warning then says; those of
        a table's warm-up are trained again for methods that are added.
      live: what else gets each epoch's figures, one of `live.WRITERS`; "" for nothing.
      title: what that calls the run.
    """

    def __init__(
        self,
        folder: Path,
        history: list[dict[str, Any]],
        kept: bool = True,
        *,
        live: str = "",
        title: str = "",
    ):
        self._path = folder / "metrics.jsonl"
        self._lines = [json.dumps(entry) + "\n" for entry in history]
        self._board = folder / "tensorboard"
        if not history and kept:
            self._say_lost()
        with files.writing(folder):
            self._board.mkdir(parents=True, exist_ok=True)
            for older in files.entries(self._board):
                if older.name.startswith(_EVENTS):
                    older.unlink()
            # What goes to a bucket is appended to here, and written there as a whole.
            self._local = tempfile.TemporaryDirectory() if in_bucket(folder) else None
            place = Path(self._local.name) if self._local else self._board
            # Of TensorBoard's writers the one without a thread: what it has flushed, no kill takes.
            self._events = EventsWriter(str(place / _EVENTS.partition(".")[0]))
        self._write_lines()
        # A TensorBoard that is open drops what it has read before.
        self._write_events([Event(session_log=SessionLog(status=SessionLog.START)), *map(_event, history)])
        self._live = opened(live, folder, title) if live else None
        if self._live:
            self._live.write(history)

    def _say_lost(self) -> None:
        """That epochs are trained again: a kill before the first checkpoint, or checkpoints that are gone."""
        try:
            epochs = len(self._path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError):
            return
        if epochs:
            console.warn(
                f"{self._path} has {epochs} epoch{'s' if epochs > 1 else ''}, but no checkpoint is "
                "left: training begins again"
            )

    def write(self, entry: dict[str, Any]) -> None:
        """One epoch."""
        self._lines.append(json.dumps(entry) + "\n")
        with files.writing(self._path):
            files.size(self._path)  # a log whose folder is gone does not begin elsewhere
        self._write_lines()
        self._write_events([_event(entry)])
        if self._live:
            self._live.write([entry])

    def _write_lines(self) -> None:
        # Whole each time: a bucket cannot append.
        files.write_text(self._path, "".join(self._lines))

    def _write_events(self, events: list[Event]) -> None:
        with files.writing(self._board):
            for event in events:
                self._events.write_event(event)
            self._events.flush()
            for file in files.entries(Path(self._local.name)) if self._local else ():
                buckets.upload(file, self._board / file.name)

    def close(self) -> None:
        """Flush them."""
        with files.writing(self._board):
            self._events.close()
        if self._local:
            self._local.cleanup()
        if self._live:
            self._live.close()


def _event(entry: dict[str, Any]) -> Event:
    """An epoch's numbers, each under its name."""
    event = Event(wall_time=time.time(), step=entry["epoch"])
    for name, value in entry.items():
        if isinstance(value, int | float) and name != "epoch":
            event.summary.MergeFrom(scalar(name, value))
    return event
