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
