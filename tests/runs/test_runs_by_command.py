"""A run that the command trained once, and what then becomes of it: closed, damaged, moved, looked at."""

import errno
import json
import os
import pwd
import re
import resource
import shutil

import cv2
import jax
import numpy as np
import pytest
from etils.epath import Path
from messages import says
from photographs import photograph, write_photographs
from tiny_run import Tiny

from cdml_jax.cli import main as cli
from cdml_jax.configuration.load import load_arguments
from cdml_jax.models import NETWORKS, Variant
from cdml_jax.reporting import card
from cdml_jax.runs import checkpoint, stored
from cdml_jax.system.archives import Archive
from cdml_jax.training.optimizer import make_schedule


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """birds/, and run/ trained on them: three epochs in nine steps, 27 images in three classes."""
    folder = tmp_path_factory.mktemp("root")
    write_photographs(folder / "birds", 14, np.random.default_rng(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", Variant(Tiny))
        patch.setenv("CDML_DATA_DIR", str(folder / "data"))
        assert cli.main(train(folder)) == 0
        yield folder


@pytest.fixture
def world(root, tmp_path, monkeypatch):
    """A copy of all, the working directory in it."""
    shutil.copytree(root, tmp_path / "world", copy_function=shutil.copy2)
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setenv("CDML_DATA_DIR", str(tmp_path / "world/data"))
    return tmp_path / "world"


def train(folder, *more):
    return [
        "train",
        "--config=own_images_scratch",
        f"--config.source=folder:{folder / 'birds'}",
        f"--workdir={folder / 'run'}",
        "--config.image.image_size=16",
        "--config.image.crop=random",
        "--config.model.name=tiny",
        "--config.epochs=3",
        "--config.warmup_epochs=1",
        "--config.evaluate_every=1",
        "--config.batch_size=8",
        "--config.data.num_threads=0",
        "--config.compilation_cache=",
        *more,
    ]


def commands(folder):
    """Every command that opens a checkpoint."""
    return (
        train(folder),
        ["evaluate", f"--workdir={folder / 'run'}"],
        ["predict", f"--workdir={folder / 'run'}", str(folder / "birds/owl/0.png")],
    )


def said(capsys, arguments, status=0):
    """Standard output and error of a command, which ends with the status; never a traceback."""
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments]) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return out, err


def newest(folder):
    return folder / "run/checkpoints/12"


@pytest.mark.parametrize(
    "name", ["[2026] birds/run", "a[b]", "x/[!y]/z", "set [1-3]/run", "[birds]/deep/er/run"]
)
def test_a_folder_whose_checkpoints_would_be_lost_is_refused_before_anything_is_read(world, capsys, name):
    for command in ("train", "reproduce"):
        _, error = said(capsys, [command, *train(world)[1:], f"--workdir={world / name}"], 2)
        assert says(
            f"cdml: --workdir: {world / name}: checkpoints cannot be kept below a folder with [ in its name; "
            "choose another\n",
            error,
        )
        assert not (world / name).exists()


NOT_DAMAGE = {
    "rights": (
        PermissionError(errno.EACCES, "", "there/_METADATA"),
        "there/_METADATA cannot be opened (Permi",
    ),
    "disk": (
        OSError(errno.EIO, ""),
        "(Input/output error): see whether its disk is still there, then run the",
    ),
    "stale": (
        ValueError("UNKNOWN: reading [os_error_code='116']"),
        "cannot be opened (Stale file handle): see",
    ),
    "files": (
        OSError(errno.EMFILE, ""),
        "(Too many open files): allow more open files (ulimit -n), then run",
    ),
    "kernel": (
        OSError(errno.ENOMEM, ""),
        "cannot be opened (Cannot allocate memory): free some memory, then",
    ),
    "memory": (MemoryError(), "cannot be read (no memory is left): free some, then run the same command"),
    "threads": (
        RuntimeError("can't start new thread"),
        "cannot be read here (can't start new thread); it is",
    ),
    "bucket": (
        ValueError("UNAVAILABLE: no route"),
        "cannot be read here (UNAVAILABLE: no route); it is left",
    ),
    "device": (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x"), "(RESOURCE_EXHAUSTED: x); it is left as"),
    "several": (ExceptionGroup("x", [ValueError("y"), OSError(errno.EIO, "")]), "(Input/output error): see"),
}


@pytest.mark.parametrize("kind", NOT_DAMAGE)
def test_what_cannot_be_opened_is_left_where_it_is(world, capsys, monkeypatch, kind):
    raised, message = NOT_DAMAGE[kind]

    def fail(*_):
        raise raised

    monkeypatch.setattr(stored, "read_arrays", fail)
    monkeypatch.setattr(checkpoint, "checksums", fail)
    log = (world / "run/metrics.jsonl").read_bytes()
    for command in commands(world):
        error = said(capsys, command, 2)[1]
        assert message in error
        assert "damage" not in error
        assert error.count("\n") == 1
    assert [path.name for path in (world / "run/checkpoints").iterdir()] == [newest(world).name]
    assert (world / "run/metrics.jsonl").read_bytes() == log


def closed(function, name, number):
    """The same method of a path, but for one name, which the disk refuses."""

    def refusing(path, *arguments, **options):
        if path.name == name:
            raise OSError(number, "", str(path))
        return function(path, *arguments, **options)

    return refusing


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("part", [".", "run", "run/_METADATA", "run/d", "meta/metadata"])
def test_rights_of_any_file_are_no_damage(world, capsys, part):
    closed = newest(world) / part
    rights = closed.stat().st_mode
    closed.chmod(0)
    for command in commands(world):
        assert "(Permission denied): make it readable" in said(capsys, command, 2)[1]
    closed.chmod(rights)
    said(capsys, commands(world)[2])


@pytest.mark.parametrize("name", ["config.json", "classes.json"])
def test_settings_and_names_that_cannot_be_opened_are_not_called_damaged(world, capsys, monkeypatch, name):
    kind, before = type(Path(".")), (world / "run" / name).read_bytes()
    monkeypatch.setattr(kind, "read_text", closed(kind.read_text, name, errno.EACCES))
    message = (
        f"{world / 'run' / name} cannot be opened (Permission denied): make it readable, then run the same"
    )
    for command in (train(world, "--config.epochs=4"), commands(world)[2]):
        error = said(capsys, command, 2)[1]
        assert message in error
        assert "damaged" not in error
    check = ["check", world / "run", f"--config.source=folder:{world / 'birds'}"]
    out = said(capsys, check, 1)[0]
    assert out.startswith(f"{world / 'run' / name}: cannot be opened (Permission denied): make it readable")
    assert (world / "run" / name).read_bytes() == before
    assert sorted(path.name for path in (world / "run/checkpoints").iterdir()) == ["12"]


def test_folders_that_cannot_be_looked_into_are_named_before_epochs_are_counted(world, capsys, monkeypatch):
    kind = type(Path("."))
    read, listed = kind.read_text, kind.iterdir
    monkeypatch.setattr(kind, "read_text", closed(read, "metadata", errno.EIO))
    out, error = said(capsys, train(world, "--config.epochs=4"), 2)
    assert "12/meta/metadata cannot be opened (Input/output error): see whether its disk is" in error
    assert "goes on after epoch" not in out
    monkeypatch.setattr(kind, "read_text", read)
    monkeypatch.setattr(kind, "iterdir", closed(listed, "checkpoints", errno.EACCES))
    check = ["check", world / "run", f"--config.source=folder:{world / 'birds'}"]
    assert "run/checkpoints: cannot be opened (Permission denied)" in said(capsys, check, 1)[0]


def test_a_user_whom_the_machine_does_not_know_trains_and_exports(world, capsys, monkeypatch):
    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)  # a container's user has a number and no name
    said(capsys, train(world, "--config.epochs=4"))
    assert len((world / "run/metrics.jsonl").read_text().splitlines()) == 4
    out = said(capsys, ["export", "--workdir=run", "--out=run.jax"])[0]
    assert out.startswith("run.jax: ")
    said(capsys, ["prepare", "folder:birds", "--out=records"])


def test_names_that_are_json_of_another_kind_are_written_again(world, capsys):
    before = (world / "run/classes.json").read_bytes()
    (world / "run/classes.json").write_text("[]")
    error = said(capsys, ["evaluate", "--workdir=run"])[1]
    assert "run/classes.json was edited or damaged: it is written again" in error
    assert (world / "run/classes.json").read_bytes() == before


def test_digests_of_images_that_have_changed_are_not_taken_for_the_runs_own(world, capsys):
    (world / "run/images.npz").unlink()
    more = train(world, "--config.epochs=4")
    (world / "birds/owl/0.png").unlink()
    cv2.imwrite(str(world / "birds/owl/0.png"), photograph(2, np.random.default_rng(9)))
    shutil.move(world / "birds", world / "moved")
    moved = f"--config.source=folder:{world / 'moved'}"
    out, error = said(capsys, [argument for argument in more if "source" not in argument] + [moved])
    assert "images of the same names as those of folder:" in out
    assert "have changed their content since the run" in error
    assert not (world / "run/images.npz").exists()


def test_epochs_that_are_trained_again_are_said(world, capsys):
    shutil.rmtree(world / "run/checkpoints")
    out, error = said(capsys, train(world, "--config.epochs=4"))
    assert f"{world / 'run/metrics.jsonl'} has 3 epochs, but no checkpoint is left: training beg" in error
    assert "now has 4: it has the learning rates of a run of 4 epochs" in out


def test_a_split_that_a_run_lacks_is_answered_by_those_that_it_has(world, capsys):
    (world / "other").mkdir()
    said(capsys, [*train(world, "--config.data.validation_fraction=0.0"), "--workdir=other"])
    message = "cdml: --split: other was trained without validation images; choose test\n"
    assert said(capsys, ["evaluate", "--workdir=other"], 2)[1] == message


def test_what_lies_in_place_of_the_checkpoints_is_named_before_training(world, capsys):
    shutil.rmtree(world / "run/checkpoints")
    (world / "run/checkpoints").write_text("")
    for command in commands(world):
        assert "run/checkpoints cannot be opened (Not a directory)" in said(capsys, command, 2)[1]
    assert (world / "run/best").exists()


def test_with_damaged_checkpoints_alone_nothing_begins_in_silence(world, capsys):
    newest(world).rename(world / "run/checkpoints/damaged-9")
    log = (world / "run/metrics.jsonl").read_bytes()
    for command in commands(world):
        assert "holds no whole checkpoint, but damaged-9: bring a copy back" in said(capsys, command, 2)[1]
    assert (world / "run/metrics.jsonl").read_bytes() == log


def test_what_a_kill_left_half_written_is_removed_at_the_next_start(world, capsys):
    for step in (3, 9):
        shutil.copytree(newest(world), world / f"run/checkpoints/{step}.orbax-checkpoint-tmp")
    out, _ = said(capsys, train(world))
    assert "Removed 2 half-written checkpoints of a run that was killed (" in out
    assert [path.name for path in (world / "run/checkpoints").iterdir()] == [newest(world).name]


def test_what_arrays_do_not_need_may_be_gone(world, capsys):
    """Whoever trains on and whoever predicts agree on what is whole."""
    run = newest(world) / "run"
    (run / "_sharding").write_text("{")
    shutil.rmtree(run / "array_metadatas")
    (run / "commit_success.txt").unlink()
    for command in commands(world):
        assert "damage" not in said(capsys, command)[1]
    (run / "_sharding").unlink()
    said(capsys, commands(world)[2])


@pytest.mark.parametrize("backend", ["cuda", "gpu", "tpu", "rocm", "metal"])
def test_a_backend_that_is_not_there_is_one_line(world, capsys, monkeypatch, backend):
    def fail(*_, **__):
        assert backend != "cuda"  # as JAX does, without a word
        raise RuntimeError(f"Unable to initialize backend '{backend}': not known (set JAX_PLATFORMS='')")

    monkeypatch.setenv("JAX_PLATFORMS", backend)
    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setattr(jax, "local_devices", fail)
    for command in commands(world):
        error = said(capsys, command, 2)[1]
        assert error.startswith(f"cdml: JAX finds no {backend} device (JAX_PLATFORMS={backend})")
        assert error.endswith("unset JAX_PLATFORMS\n")
        assert error.count("\n") == 1
    assert newest(world).is_dir()


def test_a_run_in_use_is_refused_before_images_are_read(world, capsys, monkeypatch):
    monkeypatch.setattr(
        "cdml_jax.cli.actions.running.load_dataset", lambda *_: pytest.fail("images were read")
    )
    from cdml_jax.runs.workdir import held

    with held(world / "run"):
        assert "is in use by another run" in said(capsys, train(world), 2)[1]
    assert (
        "optimizer.momentum (0.9 there, 0.5 here)"
        in said(capsys, train(world, "--config.optimizer.momentum=0.5"), 2)[1]
    )


def test_a_run_that_cannot_be_written_is_evaluated(world, capsys, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (world / "run/classes.json").unlink()
    monkeypatch.setattr("cdml_jax.system.files.replacing", refuse)
    out, error = said(capsys, commands(world)[1])
    assert "validation: top-1 " in out
    assert "the classes' names are not kept: " in error
    assert "confusion_validation.png: not drawn" in error


def test_images_and_workdirs_may_move(world, capsys, monkeypatch):
    """Nothing depends on the folder that a command is given in; the same images are the same run's."""
    birds, moved = world / "birds", world / "elsewhere/birds of 2026"
    monkeypatch.chdir(world)
    relative = [a.replace(f"{world}/", "") for a in train(world)]
    said(capsys, [*relative, "--workdir=second", "--config.epochs=1"])
    monkeypatch.chdir("/")
    evaluated = said(capsys, ["evaluate", f"--workdir={world / 'second'}", "--quiet"])[0]
    shutil.move(birds, moved)
    (world / "second").rename(world / "elsewhere/second")
    place = f"--workdir={world / 'elsewhere/second'}"
    for source in (f"folder:{birds}", f"folder:{world / 'nowhere'}"):
        error = said(capsys, ["evaluate", place, f"--config.source={source}"], 2)[1]
        assert says(
            f"cdml: {source}: there is no such folder; --config.source=folder:DIR says where its images are "
            "now\n",
            error,
        )
    assert said(capsys, ["evaluate", place], 2)[1].startswith(
        f"cdml: folder:{birds}: there is no such folder"
    )
    here = f"--config.source=folder:{moved}"
    there = evaluated.replace(f"{world / 'second'}", f"{world / 'elsewhere/second'}")
    assert said(capsys, ["evaluate", place, here, "--quiet"])[0] == there
    monkeypatch.chdir(world / "elsewhere")
    more = [*train(world), "--workdir=second", "--config.source=folder:birds of 2026", "--config.epochs=1"]
    assert f"the same images as of folder:{birds} are now read from folder:{moved}" in said(capsys, more)[0]
    assert said(capsys, ["evaluate", place, "--quiet"])[0] == there
    (moved / "owl/0.png").unlink()
    assert "holds a run on other images of folder:" in said(capsys, ["evaluate", place], 2)[1]
    assert (
        "unknown argument '--config.epochs=1'" in said(capsys, ["evaluate", place, "--config.epochs=1"], 2)[1]
    )


def test_files_that_settings_name_may_move_but_not_change(world, capsys):
    costs = "x,red finch,pink finch,owl\nred finch,0,1,1\npink finch,1,0,1\nowl,1,1,0\n"
    (world / "costs.csv").write_text(costs)
    run = f"--workdir={world / 'second'}"
    said(capsys, train(world, run, "--config.epochs=1", "--config.confusion.source=file:costs.csv"))
    (world / "costs.csv").rename(world / "moved.csv")
    more = train(world, run, "--config.epochs=1", "--config.confusion.source=file:moved.csv")
    said(capsys, more)
    (world / "moved.csv").write_text(costs.replace("owl,1", "owl,2"))
    error = said(capsys, more, 2)[1]
    assert f"began with another content of confusion.source (file:{world / 'moved.csv'}); bring that" in error
    (world / "moved.csv").unlink()
    said(capsys, ["evaluate", run])


def test_a_finished_run_goes_on_for_more_epochs_and_not_for_fewer(world, capsys):
    out, _ = said(capsys, train(world, "--config.epochs=5"))
    assert (
        "the run was begun for 3 epochs and now has 5: it goes on after epoch 3 with the learning rates of a "
        "run of 5 epochs"
    ) in out
    assert "continuing at step 12" in out
    lines = [json.loads(line) for line in (world / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20]
    schedule = make_schedule(load_arguments(train(world, "--config.epochs=5")[1:2]).settings.optimizer, 20)
    assert [line["learning_rate"] for line in lines[3:]] == pytest.approx(
        [float(schedule(15)), float(schedule(19))]
    )
    error = said(capsys, train(world, "--config.epochs=4"), 2)[1]
    assert "has trained 5 epochs already; epochs: 4 is fewer: give at least 5" in error
    error = said(capsys, train(world, "--config.epochs=1", "--config.warmup_epochs=2"), 2)[1]
    assert says(
        "cdml: warmup_epochs: 2 exceeds epochs, 1; lower it too, such as by --config.warmup_epochs=0\n", error
    )
    error = said(capsys, train(world, "--config.epochs=9", "--config.batch_size=16"), 2)[1]
    assert "batch_size (8 there, 16 here)" in error


def test_a_run_begins_with_another(world, capsys):
    """With all of it for the same classes, else without its classifier; images may have another size."""
    second = [f"--workdir={world / 'second'}", "--config.model.weights=run", "--config.epochs=1"]
    out, _ = said(capsys, train(world, *second, "--config.optimizer.learning_rate=0."))
    assert out.startswith("The network begins as run was after epoch 3: all of it, the classifier included\n")
    there, here = (
        {
            key: sum_
            for key, sum_ in stored.read_meta(checkpoint)["checksums"].items()
            if key.startswith("state.parameters.")
        }
        for checkpoint in (newest(world), world / "second/checkpoints/4")
    )
    assert there == here

    (world / "birds/owl").rename(world / "birds/emu")
    other = [*second, f"--workdir={world / 'third'}", "--config.image.image_size=24"]
    out, _ = said(capsys, train(world, *other, "--config.model.embedding_size=4"))
    assert out.startswith(
        "The network begins as run was after epoch 3: its classifier is left out: the classes are others (3 "
        "there, 3 here); its projection is left out: it has another size, or none\n"
    )
    shutil.rmtree(world / "run")
    said(capsys, train(world, *other, "--config.model.embedding_size=4"))  # it has begun
    for name, message in {
        "birds": "birds is a folder that holds no run; give a file, or the workdir of a run",
        "nowhere": "no file nowhere",
    }.items():
        again = [f"--config.model.weights={name}", f"--workdir={world / 'fourth'}"]
        error = said(capsys, train(world, *again), 2)[1]
        assert error.startswith(f"cdml: model.weights: {message}")


def test_the_best_epoch_is_used_by_choice(world, capsys):
    entries = [json.loads(line) for line in (world / "run/metrics.jsonl").read_text().splitlines()]
    accuracies = [entry["validation_accuracy"] for entry in entries]
    best = 1 + accuracies.index(max(accuracies))
    place = f"--workdir={world / 'run'}"
    out, _ = said(capsys, ["evaluate", place, "--best"])
    assert f"The best epoch by validation is {best} of 3." in out
    assert f"validation: top-1 {max(accuracies):.2%}" in out
    said(capsys, ["evaluate", place, "--split=test"])
    page = (world / "run/MODEL_CARD.md").read_text()
    for of, epoch in ("validation", 3), ("validation, best epoch", best), ("test", 3):
        assert re.search(rf"^\| {of} +\| +{epoch} \|", page, re.M)
    trained = card.read(world / "run")
    assert trained.figures["validation, best epoch"].correct == round(6 * max(accuracies))
    assert sum(map(sum, trained.sizes.values())) == 42
    assert trained.weights == "none: it was trained from scratch"
    # The same command again trains nothing, and loses nothing.
    said(capsys, train(world))
    assert (world / "run/MODEL_CARD.md").read_text() == page
    found = {}
    for flag in ("--best", "--verbose"):
        for command in (
            ["predict", place, "birds/owl/0.png", "--json", flag],
            ["embed", place, "birds/owl", "--out=a.npz", flag],
            ["export", place, "--out=a.jax", flag],
        ):
            said(capsys, command)
        found[flag] = np.load("a.npz")["embeddings"]
    assert (np.abs(found["--best"] - found["--verbose"]).max() > 1e-4) == (best != 3)
    shutil.rmtree(world / "run/best")
    error = said(capsys, ["predict", place, "birds/owl/0.png", "--best"], 2)[1]
    assert error.startswith(f"cdml: --best: {world / 'run'} keeps no best epoch: ")
    assert error.endswith("the runs of a table are compared at their last step\n")


def test_a_table_stops_nothing_early(world, capsys):
    table = ["reproduce", *train(world, "--config.early_stopping=2")[1:], f"--workdir={world / 'table'}"]
    assert said(capsys, table, 2)[1].startswith(
        "cdml: early_stopping: the methods of a table are compared at "
    )
    folds = train(world, "--config.early_stopping=2", "--folds=2")
    assert said(capsys, folds, 2)[1].startswith("cdml: early_stopping: the held-out images would choose the ")


def test_folds_hold_every_image_of_training_and_validation_out_once(world, capsys):
    folds = train(world, "--folds=2", "--config.epochs=3")
    out, _ = said(capsys, folds)
    assert (
        "2 models, each without one fold of all train and validation images; test images are left out" in out
    )
    counts = sum(Archive(path)["counts"] for path in sorted((world / "run/folds/epochs3").glob("*.npz")))
    assert counts.sum() == 36
    assert f"held out: top-1 {np.trace(counts) / 36:.2%}" in out
    again, _ = said(capsys, folds)
    assert "compiled" not in again
    assert again.splitlines()[-6:] == out.splitlines()[-6:]
    assert "--folds: 37 exceeds the 36 images" in said(capsys, train(world, "--folds=37"), 2)[1]
    assert "--folds: must be at least 2, not 1" in said(capsys, train(world, "--folds=1"), 2)[1]
    said(capsys, ["evaluate", f"--workdir={world / 'run'}"])  # the run is still there


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_check_names_every_file_that_is_not_as_it_was_written(world, capsys):
    run = world / "run"
    shutil.copytree(run, world / "whole")
    check = ["check", run, f"--config.source=folder:{world / 'birds'}"]
    out, _ = said(capsys, check)
    assert out == (
        f"{run}: nothing is damaged or edited (read: 2 settings, 1 cards, 2 checkpoints, 1 logs, 42 images)\n"
    )
    (data,) = (run / "checkpoints/12/run/d").iterdir()
    (best,) = (run / "best").iterdir()
    harms = {
        "config.json": lambda path: path.write_text(path.read_text().replace('"epochs": 3', '"epochs": 4')),
        "classes.json": lambda path: path.write_text(path.read_text().replace("owl", "emu")),
        "card.json": lambda path: path.write_text(path.read_text().replace("birds", "bears", 1)),
        "images.npz": flip,
        "metrics.jsonl": lambda path: path.write_text(path.read_text().replace('"loss": 1', '"loss": 0', 1)),
        "checkpoints/12": lambda path: flip(data),
        best.relative_to(run).as_posix(): lambda path: flip(path / "meta/metadata"),
    }
    for name, harm in harms.items():
        harm(run / name)
        out, _ = said(capsys, check, 1)
        first, last = out.splitlines()
        assert first.startswith(f"{run / name}: is ")
        assert last.startswith(f"{run}: 1 damaged, edited or gone (read: ")
        shutil.rmtree(run)
        shutil.copytree(world / "whole", run)
    harms = {
        "classes.json": lambda path: path.write_text("[]"),
        "images.npz": lambda path: path.unlink(),
        "checkpoints": shutil.rmtree,
        best.relative_to(run).as_posix(): lambda path: (run / "metrics.jsonl").write_text(
            (run / "metrics.jsonl").read_text().replace('"validation_accuracy": ', '"validation_accuracy": 1')
        ),
    }
    messages = (
        "not as the run wrote it",
        "gone: images were not",
        "gone, or empty",
        "not of this run: its log",
    )
    for (name, harm), message in zip(harms.items(), messages, strict=True):
        harm(run / name)
        assert f"{run / name}: is {message}" in said(capsys, check, 1)[0]
        shutil.rmtree(run)
        shutil.copytree(world / "whole", run)
    (run / "classes.json").unlink()
    (run / "checkpoints/12").rename(run / "checkpoints/16")
    shutil.copytree(run / "best", run / "checkpoints/damaged-4")
    out, _ = said(capsys, check, 1)
    assert out.splitlines()[:-1] == [
        f"{run / 'classes.json'}: is gone",
        f"{run / 'checkpoints/16'}: is the checkpoint of step 12: it was renamed",
        f"{run / 'checkpoints/damaged-4'}: a damaged checkpoint that was left aside",
    ]


def test_check_names_every_image_that_is_not_as_the_run_began(world, capsys):
    owls, check = world / "birds/owl", ["check", world / "run", f"--config.source=folder:{world / 'birds'}"]
    before = (owls / "0.png").stat()
    flip(owls / "0.png")
    os.utime(owls / "0.png", ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does it
    (owls / "1.png").write_bytes((owls / "2.png").read_bytes())
    (owls / "3.png").unlink()
    shutil.copy(owls / "4.png", owls / "new.png")
    out, _ = said(capsys, check, 1)
    assert sorted(out.splitlines()[:-1]) == [
        "owl/0.png: its content has changed since the run began",
        "owl/1.png: its content has changed since the run began",
        "owl/3.png: is gone",
        "owl/new.png: is new since the run began",
    ]
    assert "4 damaged, edited or gone" in out
    shutil.rmtree(world / "birds")
    assert said(capsys, check, 1)[0].startswith(f"images: folder:{world / 'birds'}: there is no such folder")


def test_a_record_is_shown_as_json_and_other_files_are_refused(world, capsys):
    shown = json.loads(said(capsys, ["check", "--show", "run/images.npz"])[0])
    assert len(shown["record"]["names"]) == 42
    assert shown["arrays"] == {"digests": "uint8 (42, 12)"}
    flip(world / "run/images.npz")
    for name in ("run/images.npz", "run/config.json"):
        error = said(capsys, ["check", "--show", name], 2)[1]
        assert error.startswith(f"cdml: --show: {name} is damaged, or is not a result of a run (")
    assert "cannot be read (" in said(capsys, ["check", "--show", "birds"], 2)[1]
    for arguments, message in {
        ("check",): "check: give a workdir, or --show=FILE",
        ("check", "birds"): "birds holds no run (no config.json)",
        ("check", "run", "--config.epochs=3"): "check: unknown argument '--config.epochs=3'; the run's own",
    }.items():
        assert said(capsys, arguments, 2)[1].startswith(f"cdml: {message}")


def test_a_save_that_fails_prints_one_line(world, capfd, monkeypatch):
    """Whatever tasks of Orbax fail, each for itself, as where files may not grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    digest = stored.digest

    def limited(meta):  # all is compiled then, and in the cache
        if "history" in meta:  # of the last checkpoint, not of the best epoch
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, hard))
        return digest(meta)

    monkeypatch.setattr(stored, "digest", limited)
    try:
        command = train(world, f"--workdir={world / 'second'}", "--config.model.embedding_size=1000")
        assert cli.main([*command, "--config.epochs=1"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert "cannot be written (File too large)" in error.splitlines()[-1]
