"""Figures of each epoch in a tracker: Weights & Biases or MLflow, whichever is asked for and installed."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from etils.epath import Path

from cdml_jax.configuration.trackers import WRITERS
from cdml_jax.errors import UserError
from cdml_jax.system import console, files
from cdml_jax.system.buckets import in_bucket

FILE = "live.json"
PROJECT = "cdml_jax"


class Tracker(Protocol):
    """One run in a tracker."""

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Sends the figures of an epoch."""

    def finish(self) -> None:
        """Ends the run there."""


class Live:
    """Sends each epoch once, also where a run is continued; what goes wrong is said once and ends nothing.

    Args:
      tracker: of the run.
      path: where it is kept which run that is, and how many epochs it has.
      state: what stands there.
    """

    def __init__(self, tracker: Tracker, path: Path, state: dict[str, Any]):
        self._tracker: Tracker | None = tracker
        self._path, self._state = path, state

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Sends entries of epochs that the tracker does not have yet."""
        for entry in entries:
            if self._tracker is None or entry["epoch"] <= self._state["epochs"]:
                continue
            figures = {
                name: float(value)
                for name, value in entry.items()
                if isinstance(value, int | float) and name != "epoch"
            }
            self._attempt(lambda tracker, at=entry["epoch"], all_=figures: tracker.log(at, all_))
            self._state["epochs"] = entry["epoch"]
        files.write_json(self._path, self._state)

    def close(self) -> None:
        """Ends the run there."""
        self._attempt(lambda tracker: tracker.finish())

    def _attempt(self, do: Any) -> None:
        if self._tracker is None:
            return
        try:
            do(self._tracker)
        except Exception as error:  # a server that is gone must not end a training
            console.warn(f"{self._state['writer']} takes no more figures ({type(error).__name__}: {error})")
            self._tracker = None


def opened(writer: str, folder: Path, title: str) -> Live:
    """The run of a workdir in a tracker: the one that it began, or a new one.

    Args:
      writer: which, one of `WRITERS`.
      folder: the workdir.
      title: what the tracker calls the run.

    Raises:
      UserError: the tracker is not installed, or does not begin.
    """
    if importlib.util.find_spec(writer) is None:
        raise UserError(f"live: {writer} is not installed; pip install {WRITERS[writer]}")
    path = folder / FILE
    state: dict[str, Any] = {"writer": writer, "id": "", "epochs": 0}
    try:
        kept = json.loads(path.read_text())
        state = kept if kept["writer"] == writer and isinstance(kept["epochs"], int) else state
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none: a new run
    try:
        tracker, state["id"] = (_wandb if writer == "wandb" else _mlflow)(folder, title, state["id"])
    except UserError as error:
        raise UserError(f"live: {writer}: {error}") from error
    except Exception as error:
        raise UserError(f"live: {writer} does not begin ({type(error).__name__}: {error})") from error
    return Live(tracker, path, state)


class _Wandb:
    def __init__(self, run: Any):
        self._run = run

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=epoch)

    def finish(self) -> None:
        self._run.finish()


def _wandb(folder: Path, title: str, known: str) -> tuple[Tracker, str]:
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=title,
        id=known or secrets.token_hex(8),
        resume="allow",
        dir=None if in_bucket(folder) else os.fspath(folder),  # else where the command was given
        settings=wandb.Settings(silent=True),
    )
    return _Wandb(run), run.id


class _MLflow:
    def __init__(self, client: Any, run: str):
        self._client, self._run = client, run

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def finish(self) -> None:
        self._client.set_terminated(self._run)


def _mlflow(folder: Path, title: str, known: str) -> tuple[Tracker, str]:
    import mlflow

    if in_bucket(folder) and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError("it keeps no files in a bucket; set MLFLOW_TRACKING_URI to a server or a folder")
    where = os.environ.get("MLFLOW_TRACKING_URI") or (files.absolute(folder) / "mlruns").as_uri()
    client = mlflow.MlflowClient(where)
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(experiment)
    if known:
        client.set_terminated(known, "RUNNING")
        return _MLflow(client, known), known
    run = client.create_run(number, run_name=title).info.run_id
    return _MLflow(client, run), run
