"""Which folder keeps compiled programs, and that a second start finds them there."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from messages import like, says

from cdml_jax.errors import UserError
from cdml_jax.system.compilation_cache import keep_compiled

PROGRAM = """
import sys, jax, jax.numpy as jnp
from cdml_jax.system.compilation_cache import keep_compiled
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
print(keep_compiled(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((8, 8))).block_until_ready()
print(sum(event.endswith("cache_hits") for event in hits) > 0)
"""


def start(setting, **environment):
    """(folder, whether something was found there) of a new process."""
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "CDML_DATA_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, setting],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    folder, hit = done.stdout.split()
    return folder, hit == "True"


@pytest.fixture
def unset():
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


def test_a_second_start_finds_what_the_first_compiled(tmp_path):
    first, second = start("auto", XDG_CACHE_HOME=str(tmp_path)), start("auto", XDG_CACHE_HOME=str(tmp_path))
    assert Path(first[0]).is_relative_to(tmp_path / "cdml_jax" / "compiled")
    assert first == (second[0], False)
    assert second[1]


def test_the_environment_comes_first(tmp_path):
    folder, _ = start(str(tmp_path / "mine"), JAX_COMPILATION_CACHE_DIR=str(tmp_path / "theirs"))
    assert folder == str(tmp_path / "theirs")
    assert not (tmp_path / "mine").exists()


def test_what_the_calling_program_chose_stays(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    assert keep_compiled(str(tmp_path)) == Path(before)
    assert jax.config.jax_compilation_cache_dir == before


@pytest.mark.usefixtures("unset")
def test_nothing_is_kept_when_switched_off(tmp_path):
    assert keep_compiled("") is None
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.usefixtures("unset")
def test_processors_with_other_features_have_other_folders(tmp_path, monkeypatch):
    folders = []
    for flags in ("flags : sse avx", "flags : sse avx avx512f"):
        monkeypatch.setattr(Path, "read_text", lambda _, flags=flags: f"model name : X\n{flags}\n")
        folders.append(keep_compiled(str(tmp_path)))
        jax.config.update("jax_compilation_cache_dir", None)
    assert folders[0] != folders[1]
    assert {folder.parent for folder in folders} == {tmp_path}


@pytest.mark.usefixtures("unset")
def test_a_folder_that_cannot_be_made_is_an_error_if_named_and_does_without_if_not(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=like("compilation_cache: …file/… cannot be made (Not a directory)")):
        keep_compiled(str(tmp_path / "file"))
    monkeypatch.setenv("CDML_DATA_DIR", str(tmp_path / "file"))
    assert keep_compiled("auto") is None
    for name in ("CDML_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # no home folder is known
    assert keep_compiled("auto") is None


@pytest.mark.usefixtures("unset")
def test_the_environments_folder_is_found_below_the_home_folder_or_given_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", "~/kept")
    assert keep_compiled("auto") == tmp_path / "kept"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "kept")
    (tmp_path / "file").write_text("")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "file"))
    assert keep_compiled("auto") is None
    assert jax.config.jax_compilation_cache_dir is None
    assert says(
        f"cdml: JAX_COMPILATION_CACHE_DIR: {tmp_path / 'file'} cannot be used (File exists): nothing is kept "
        "there\n",
        capsys.readouterr().err,
    )


@pytest.mark.usefixtures("unset")
def test_a_folder_that_can_only_be_read_is_used_which_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    folder = keep_compiled(str(tmp_path))
    assert folder is not None
    assert says(f"cdml: {folder} cannot be written: what is compiled is not kept\n", capsys.readouterr().err)


def test_a_folder_in_a_bucket_is_refused(unset):
    with pytest.raises(
        UserError, match=r"^compilation_cache: gs://bucket/a: compiled programs are kept on a"
    ):
        keep_compiled("gs://bucket/a")
    assert jax.config.jax_compilation_cache_dir is None
