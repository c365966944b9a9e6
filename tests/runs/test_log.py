"""TensorBoard's events hold the epochs of metrics.jsonl, each once, whatever ended the run."""

import contextlib
import json
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from cdml_jax.runs.log import Writers


def logged(folder):
    """(epoch, loss) in the order of the folder's events, and of its lines."""
    events = []
    for file in sorted((folder / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            events += [
                (event.step, value.simple_value) for value in event.summary.value if value.tag == "loss"
            ]
            content = content[16 + length :]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return events, [(line["epoch"], line["loss"]) for line in lines]


def entries(*epochs):
    return [{"epoch": epoch, "loss": 1 / 2**epoch, "confused_pairs": []} for epoch in epochs]


def test_every_epoch_is_in_both_at_once_without_a_close(tmp_path):
    writers = Writers(tmp_path, [])
    for epoch in (1, 2, 3):
        writers.write(*entries(epoch))
        events, lines = logged(tmp_path)
        assert events == lines == [(k, 1 / 2**k) for k in range(1, epoch + 1)]


@pytest.mark.parametrize("kept", [0, 1, 2, 4])
def test_a_run_that_continues_after_a_kill_writes_its_history_again(tmp_path, kept):
    """It goes on behind its last checkpoint, which may be before the last epoch that was logged."""
    for epoch, entry in enumerate(entries(1, 2, 3), start=1):
        Writers(tmp_path, entries(*range(1, epoch))).write(entry)  # killed each time: never closed
    writers = Writers(tmp_path, entries(*range(1, kept + 1)))
    writers.write(*entries(kept + 1))
    writers.close()
    events, lines = logged(tmp_path)
    assert events == lines == [(k, 1 / 2**k) for k in range(1, kept + 2)]


def test_files_of_others_stay(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard/notes.txt").write_text("mine")
    Writers(tmp_path, entries(1))
    assert (tmp_path / "tensorboard/notes.txt").read_text() == "mine"


def test_epochs_without_a_checkpoint_are_lost_but_for_those_of_a_warm_up(tmp_path, capsys):
    with contextlib.closing(Writers(tmp_path, [])) as writers:
        writers.write(entries(1)[0])
    Writers(tmp_path, [], kept=False).close()
    assert capsys.readouterr().err == ""
    with contextlib.closing(Writers(tmp_path, [])) as writers:
        writers.write(entries(1)[0])
    Writers(tmp_path, []).close()
    assert "has 1 epoch, but no checkpoint is left" in capsys.readouterr().err
