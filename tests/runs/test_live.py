"""Trackers get each epoch once, in their offline modes; what goes wrong there ends no training."""

import importlib.util
import json
import sys
from unittest import mock

import pytest
from etils.epath import Path
from messages import says

from cdml_jax.configuration.checks import check
from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.errors import UserError
from cdml_jax.runs import live
from cdml_jax.runs.log import Writers

HISTORY = [
    {"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "confused_pairs": []} for epoch in (1, 2, 3)
]


class Kept:
    """A tracker that keeps what it is sent."""

    def __init__(self, fails=()):
        self.sent, self.ended, self.fails = [], False, fails

    def log(self, epoch, figures):
        if epoch in self.fails:
            raise ConnectionError("no route")
        self.sent.append((epoch, figures))

    def finish(self):
        self.ended = True


@pytest.fixture
def kept(monkeypatch):
    """Trackers in the order in which runs began, by the identities that they were given."""
    found = []

    def begin(folder, title, known):
        found.append((title, known, Kept()))
        return found[-1][2], known or "new"

    monkeypatch.setattr(live, "_mlflow", begin)
    monkeypatch.setattr(live.importlib.util, "find_spec", lambda name: name)
    return found


def test_an_epoch_is_sent_once_also_where_a_run_goes_on(tmp_path, kept):
    folder = Path(tmp_path)
    first = Writers(folder, HISTORY[:1], live="mlflow", title="CDML, seed 0")
    first.write(HISTORY[1])
    first.close()
    again = Writers(folder, HISTORY[:2], live="mlflow", title="CDML, seed 0")
    again.write(HISTORY[2])
    assert [(title, known) for title, known, _ in kept] == [("CDML, seed 0", ""), ("CDML, seed 0", "new")]
    assert kept[0][2].sent == [(1, {"step": 10.0, "loss": 1.0}), (2, {"step": 20.0, "loss": 0.5})]
    assert kept[0][2].ended
    assert [epoch for epoch, _ in kept[1][2].sent] == [3]


def test_a_tracker_that_fails_is_named_once_and_left(tmp_path, capsys):
    state = {"writer": "wandb", "id": "a", "epochs": 0}
    tracker = Kept(fails=(2,))
    writer = live.Live(tracker, Path(tmp_path) / "live.json", state)
    writer.write(HISTORY)
    writer.close()
    assert [epoch for epoch, _ in tracker.sent] == [1]
    assert says("cdml: wandb takes no more figures (ConnectionError: no route)\n", capsys.readouterr().err)
    assert json.loads((tmp_path / "live.json").read_text())["id"] == "a"


def test_one_that_is_absent_or_unknown_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(live.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="live: mlflow is not installed; pip install mlflow"):
        live.opened("mlflow", Path(tmp_path), "a")
    with pytest.raises(UserError, match="live: 'neptune'"):
        check(changed(defaults(), {"live": "neptune"}))


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_keeps_runs_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for end in (2, 3):
        writer = live.opened("mlflow", Path(tmp_path), "CDML, seed 0")
        writer.write(HISTORY[:end])
        writer.close()
    import mlflow

    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name(live.PROJECT).experiment_id])
    assert run.info.run_name == "CDML, seed 0"
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_writes_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    writer = live.opened("wandb", Path(tmp_path), "CDML, seed 0")
    writer.write(HISTORY)
    writer.close()
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))


def test_mlflow_keeps_no_files_in_a_bucket(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", mock.Mock())
    with pytest.raises(
        UserError, match=r"^it keeps no files in a bucket; set MLFLOW_TRACKING_URI to a server"
    ):
        live._mlflow(Path("gs://bucket/run"), "CDML, seed 0", "")


def test_wandb_keeps_its_files_here_where_the_workdir_is_in_a_bucket(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := mock.Mock())
    live._wandb(Path("gs://bucket/run"), "CDML, seed 0", "")
    assert wandb.init.call_args.kwargs["dir"] is None
