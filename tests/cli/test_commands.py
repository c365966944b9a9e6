"""Flags of the commands: paths with `~`, how much is printed, help, and `cdml config`."""

import importlib.metadata
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import cdml_jax
from cdml_jax.cli import arguments, main
from cdml_jax.cli.actions.running import settings_for_use
from cdml_jax.cli.images import images_in
from cdml_jax.configuration.load import load, load_arguments
from cdml_jax.configuration.settings import changed, defaults, to_plain
from cdml_jax.system import console


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("train --workdir=~/mine", "workdir"),
        ("reproduce --workdir ~/mine", "workdir"),
        ("evaluate --workdir=~/mine", "workdir"),
        ("prepare birds --out=~/mine", "out"),
        ("predict --workdir=~/mine a.jpg", "workdir"),
        ("embed --workdir=a b --out=~/mine", "out"),
        ("embed --workdir=a ~/mine --out=c", "folder"),
        ("export --workdir=a --out=~/mine", "out"),
        ("localize a --out=~/mine", "out"),
        ("descriptors --workdir=~/mine", "workdir"),
    ],
)
def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch, line, name):
    monkeypatch.setenv("HOME", "/home/of mine")
    options, _ = main.parser().parse_known_args(line.split())
    assert getattr(options, name) == Path("/home/of mine/mine")


def test_what_was_trained_on_groups_of_devices_is_used_on_any_number():
    stored = {"config": to_plain(changed(defaults(), {"model.batch_norm_devices": 8}))}
    assert settings_for_use(stored).model.batch_norm_devices == 0


def test_brackets_in_a_path_are_no_pattern(tmp_path):
    folder = tmp_path / "[2026] birds"
    folder.mkdir()
    (folder / "a.jpg").touch()
    assert images_in(arguments.path(str(folder))).files == [folder / "a.jpg"]


def test_no_home_folder_is_named(monkeypatch, capsys):
    monkeypatch.setattr("os.path.expanduser", lambda text: text)
    with pytest.raises(SystemExit):
        main.main(["evaluate", "--workdir=~/mine"])
    assert "~/mine: there is no such home folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "verbosity"),
    [("--quiet", console.Verbosity.QUIET), ("--verbose", console.Verbosity.VERBOSE)],
)
@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_command_can_be_quiet_or_verbose(command, flag, verbosity):
    needed = {
        "evaluate": ["--workdir=a"],
        "calibrate": ["--workdir=a"],
        "compare": ["a", "b"],
        "prepare": ["b"],
        "predict": ["--workdir=a", "b"],
        "embed": ["--workdir=a", "b", "--out=c"],
        "export": ["--workdir=a", "--out=c"],
        "search": ["--gallery=a", "b"],
        "localize": ["a", "--out=b"],
        "compile": ["--topology=a"],
    }
    options, _ = main.parser().parse_known_args([command, *needed.get(command, []), flag])
    assert options.verbosity == verbosity
    options, _ = main.parser().parse_known_args([command, *needed.get(command, [])])
    assert options.verbosity == console.Verbosity.NORMAL


def test_quiet_is_heard_by_the_console(capsys):
    assert main.main(["config", "--config=demo", "--quiet"]) == 0
    assert capsys.readouterr().out  # what was asked for
    console.say("not this")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["demo", "grocery"])
def test_config_prints_flags_that_give_the_same_settings_elsewhere(capsys, name):
    overrides = ["--config.optimizer.freeze=stem,blocks.0", "--config.source=folder:my birds # 2"]
    assert main.main(["config", f"--config={name}", *overrides]) == 0
    lines = capsys.readouterr().out.splitlines()
    flags = [flag for line in lines for flag in shlex.split(line, comments=True)]
    assert len(flags) == len(lines)
    expected = load_arguments([f"--config={name}", *overrides]).settings
    assert load_arguments(["--config=own_images", *flags]).settings == expected
    assert lines[0] == "'--config.source=folder:my birds # 2'  # base: synthetic_birds/demo"
    assert "--config.seed=0" in lines


def test_config_marks_what_differs_from_the_base_and_nothing_else(capsys):
    base = str(Path(cdml_jax.__file__).parents[1] / "configs/base.py")
    assert main.main(["config", f"--config={base}", "--config.epochs=3"]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "#" in line]
    assert marked == [f"--config.epochs=3  # base: {load(base).settings.epochs}"]


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert ended.value.code == 0
    python = ".".join(map(str, sys.version_info[:3]))
    assert (
        capsys.readouterr().out
        == f"cdml_jax {cdml_jax.__version__}, jax {jax.__version__}, Python {python}\n"
    )


def test_the_version_is_printed_without_jax(capsys, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit):
        main.main(["--version"])
    assert ", jax is not installed, Python 3." in capsys.readouterr().out


def test_help_version_and_a_wrong_flag_need_no_jax():
    lines = ["--help", "--version", "help", "help train", "config --help", "--quiet help", "trian", ""]
    lines += ["train --config=demo --batch=3", "train", "evaluate --splt=test", "predict", "embed --nope a"]
    lines += ["evaluate --workdir=a --config.epochs=3", "export --workdir=a --out=b --top=3", "prepare"]
    lines += ["predict --workdir=a b --topp=3", "reproduce --workdir=a"]
    code = f"""
import contextlib, io, sys
from cdml_jax.cli import main
for line in {lines}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        with contextlib.suppress(SystemExit):
            main.main(line.split())
    assert out.getvalue() and "Traceback" not in out.getvalue(), line
    loaded = {{"jax", "jaxlib", "ml_collections", "numpy", "flax"}} & sys.modules.keys()
    assert not loaded, (line, loaded)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("line", ["help", "help config", "config --help", "--quiet help config"])
def test_help_is_a_command_too(capsys, line):
    with pytest.raises(SystemExit) as ended:
        main.main(line.split())
    assert ended.value.code == 0
    assert ("cdml config" in capsys.readouterr().out) == ("config" in line)


def test_help_about_no_command_names_those_that_are(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["help", "trian"])
    assert ended.value.code == 2
    assert "reproduce" in capsys.readouterr().err
