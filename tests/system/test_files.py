"""Files are whole or absent, locks exclude, and paths are those a person means."""

import errno
import os
import pwd
import subprocess
import sys

import pytest
from messages import like

from cdml_jax.errors import UserError
from cdml_jax.system import files


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"wren": [1, 2]})
    files.write_json(path, {"wren": [3]})
    assert path.read_text() == '{\n "wren": [\n  3\n ]\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def fail():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_removed_and_a_living_ones_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, other = tmp_path / f".a.{gone.pid}.tmp", tmp_path / f".a.{os.getppid()}.tmp"
    left.write_text("half")
    other.write_text("being written")
    files.write_text(tmp_path / "a", "new")
    assert not left.exists()
    assert other.exists()


def test_text_that_is_there_already_is_not_written_again(tmp_path):
    path = tmp_path / "a"
    files.write_text(path, "é")
    before = path.stat()
    files.write_text(path, "é")
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_missing_folder_is_a_message(tmp_path):
    with pytest.raises(UserError, match=like("none/a cannot be written (No such file or directory)")):
        files.write_text(tmp_path / "none" / "a", "x")


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a", float("nan"))
    assert not list(tmp_path.iterdir())


def test_a_second_process_is_refused_while_the_first_holds_the_lock(tmp_path):
    program = (
        "import sys; from cdml_jax.system import files\n"
        "try:\n  with files.locked(sys.argv[1], 'in use'): print('taken')\n"
        "except ValueError as error: print(error)"
    )

    def tried():
        command = [sys.executable, "-c", program, str(tmp_path / ".lock")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with files.locked(tmp_path / ".lock", "in use"):
        assert tried() == "in use"
    assert tried() == "taken"


def test_where_locks_do_not_exist_a_warning_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with files.locked(tmp_path / ".lock", "in use"):
        pass
    assert "cannot be locked" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert os.fspath(files.path_of("~/birds")) == "/home/ann/birds"


@pytest.mark.parametrize("address", ["https://example.org/w.pth", "file:///data/birds", "ftp://a/b"])
def test_an_address_of_the_web_is_no_path(address):
    scheme = address.partition(":")[0]
    with pytest.raises(
        UserError, match=rf"^{address}: {scheme}:// is neither read nor written; fetch what is"
    ):
        files.path_of(address)


def test_a_limit_of_the_size_of_files_is_named():
    with (
        pytest.raises(
            UserError, match=r"^runs cannot be written \(File too large\): allow larger files \(ulim"
        ),
        files.writing("runs"),
    ):
        raise OSError(errno.EFBIG, "")


def test_a_size_is_known_of_files_whose_owner_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    (tmp_path / "a").write_bytes(b"four")
    assert files.size(tmp_path / "a") == 4


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CDML_DATA_DIR": "~/d", "XDG_CACHE_HOME": "/x"}, "/home/ann/d"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/cdml_jax"),
        ({}, "/home/ann/.cache/cdml_jax"),
    ],
)
def test_the_cache_folder(monkeypatch, variables, expected):
    for name in ("CDML_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert os.fspath(files.cache_directory()) == expected


def test_without_a_home_folder_the_message_says_what_to_set(monkeypatch):
    for name in ("CDML_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(UserError, match="no home folder is known: set CDML_DATA_DIR"):
        files.cache_directory()
