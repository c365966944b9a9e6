"""A run's folder belongs to one configuration."""

import errno
import os

import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.runs import workdir


def test_the_same_run_may_come_back_on_another_machine(config, tmp_path):
    workdir.claim(tmp_path / "a", "train", config, "f")
    config = changed(config, {"data.data_dir": "elsewhere", "data.num_threads": 9})
    workdir.claim(tmp_path / "a", "train", config, "f")
    assert workdir.read(tmp_path / "a")["config"]["batch_size"] == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 32}, r"batch_size \(16 there, 32 here\)"),
        ({"objective.margin": 0.5}, r"objective.margin \(0.2 there, 0.5 here\)"),
    ],
)
def test_another_configuration_is_refused_by_key(config, tmp_path, change, message):
    workdir.claim(tmp_path, "train", config, "f")
    config = changed(config, change)
    with pytest.raises(UserError, match=message):
        workdir.claim(tmp_path, "train", config, "f")


def test_another_command_or_other_images_are_refused(config, tmp_path):
    workdir.claim(tmp_path, "train", config, "f")
    with pytest.raises(UserError, match="holds a run of `cdml train`"):
        workdir.claim(tmp_path, "reproduce", config, "f")
    with pytest.raises(UserError, match="other images"):
        workdir.claim(tmp_path, "train", config, "g")


def test_a_folder_that_cannot_be_written_is_named(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        workdir.claim(tmp_path / "file" / "run", "train", config, "f")


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        workdir.held(tmp_path),
        pytest.raises(UserError, match="in use by another run"),
        workdir.held(tmp_path),
    ):
        pass
    with workdir.held(tmp_path):
        pass


def test_a_folder_without_a_run_or_with_a_broken_one_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        workdir.read(tmp_path)
    for content in ("{", "[]", '{"command": "train"}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match="cannot be read"):
            workdir.read(tmp_path)


def test_a_disk_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    def unsupported(file, how):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("fcntl.flock", unsupported)
    with workdir.held(tmp_path):
        assert "see to it that no other run uses it" in capsys.readouterr().err


def test_a_run_goes_on_with_the_contents_that_it_began_with(config, tmp_path, capsys):
    workdir.claim(tmp_path, "train", config, "f", contents={"train": "a", "test": "b"})
    for contents, named in (
        ({"train": "a", "test": "c"}, "test"),
        ({"train": "d", "test": "c"}, "train, test"),
    ):
        workdir.claim(tmp_path, "train", config, "f", contents=contents)
        assert f"some images ({named}) have changed their content" in capsys.readouterr().err
    for contents in ({"train": "a"}, {}, None):  # a split that is not read; images that are not checked
        workdir.claim(tmp_path, "train", config, "f", contents=contents)
        assert capsys.readouterr().err == ""
    assert workdir.read(tmp_path)["contents"] == {"train": "a", "test": "b"}


def test_a_configuration_that_was_edited_is_not_continued(config, tmp_path, capsys):
    workdir.claim(tmp_path, "train", config, "f")
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"margin": 0.2', '"margin": 0.5'))
    config = changed(config, {"objective.margin": 0.5})
    with pytest.raises(UserError, match="is not as the run wrote it"):
        workdir.claim(tmp_path, "train", config, "f")
    assert workdir.read_trained(tmp_path)["config"]["objective"]["margin"] == 0.5
    assert "may not be of the run that was trained" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["checkpoints", "metrics.jsonl", "results", "runs"])
def test_what_a_run_left_without_its_configuration_is_not_continued(config, tmp_path, left):
    (tmp_path / left).mkdir()
    with pytest.raises(UserError, match=f"holds {left} of a run whose config.json is gone"):
        workdir.claim(tmp_path, "train", config, "f")
    assert not (tmp_path / "config.json").exists()
