"""The commands with workdir, data set and export in a bucket; what cannot be there is refused in a line."""

import csv
import io
import json
import pathlib

import jax
import numpy as np
import pytest
from photographs import write_photographs
from tiny_run import Tiny, TinyMap

import cdml_jax
from cdml_jax.cli import main as cli
from cdml_jax.errors import UserError
from cdml_jax.inference import export_tensorflow
from cdml_jax.models import NETWORKS, Variant
from cdml_jax.runs.timing import TIMING_KEYS
from cdml_jax.system import files

RUN = "gs://bucket/runs/one"
SET = "gs://bucket/sets/birds"


def train(source, workdir, *more):
    return [
        "train",
        "--config=own_images_scratch",
        f"--config.source={source}",
        f"--workdir={workdir}",
        "--config.image.image_size=16",
        "--config.image.crop=random",
        "--config.model.name=tiny",
        "--config.epochs=2",
        "--config.warmup_epochs=1",
        "--config.evaluate_every=1",
        "--config.batch_size=8",
        "--config.data.num_threads=0",
        "--config.compilation_cache=",
        *more,
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory, bucket):
    """birds/ on the disk; written as a set into the bucket, and a run there that was trained on the set."""
    folder = tmp_path_factory.mktemp("world")
    write_photographs(folder / "birds", 14, np.random.default_rng(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(NETWORKS, "tiny", Variant(Tiny))
        patch.setitem(NETWORKS, "tiny_map", Variant(TinyMap))
        patch.setenv("CDML_DATA_DIR", str(folder / "data"))
        assert cli.main(["prepare", "folder:birds", f"--out={SET}", f"--report={SET}.csv"]) == 0
        assert cli.main(train(f"array_record:{SET}", RUN, *PROFILE)) == 0
        yield folder


def said(capsys, *arguments, status=0):
    capsys.readouterr()
    try:
        found = cli.main([str(a) for a in arguments])
    except SystemExit as end:  # of argparse
        found = end.code
    out, err = capsys.readouterr()
    assert found == status, out + err
    assert "Traceback" not in out + err
    return out, err


def names(stand_in, prefix):
    return {name.removeprefix(prefix) for name in stand_in.names(prefix=prefix)}


def log_of(folder):
    entries = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in entry.items() if key not in TIMING_KEYS} for entry in entries]


def test_it_is_the_run_that_a_disk_would_hold(world, stand_in):
    assert cli.main(train("folder:birds", "disk")) == 0
    there = files.path_of(RUN)
    assert log_of(there) == log_of(world / "disk")
    assert (there / "classes.json").read_bytes() == (world / "disk/classes.json").read_bytes()
    kept = names(stand_in, "runs/one/")
    assert {name for name in kept if name.endswith(".xplane.pb")}
    assert not any(name.endswith((".lock", ".tmp")) for name in kept)
    on_disk = {
        path.relative_to(world / "disk").as_posix() for path in (world / "disk").rglob("*") if path.is_file()
    }
    assert {name for name in on_disk if "/" not in name} - {".lock"} == {
        name for name in kept if "/" not in name
    }
    assert sorted(path.name for path in world.iterdir()) == ["birds", "data", "disk"]
    # Of what lies on the disk, the set has its copy there, and the bucket has not been touched.
    assert {name for name in names(stand_in, "sets/birds/") if name[0] == "."} == set()


def test_the_same_command_goes_on(world, capsys):
    out, _ = said(capsys, *train(f"array_record:{SET}", RUN, "--config.epochs=3"))
    assert "continuing at step 8" in out
    assert len(log_of(files.path_of(RUN))) == 3


def test_it_is_evaluated_reported_compared_and_checked(world, stand_in, capsys):
    out, _ = said(capsys, "evaluate", f"--workdir={RUN}", "--split=test")
    assert out.count("test: top-1") == 1
    assert {"confusion_test.png", "report.html", "evaluated/test.npz", "predictions.csv"} <= names(
        stand_in, "runs/one/"
    )
    rows = list(csv.DictReader(io.StringIO(files.path_of(f"{RUN}/predictions.csv").read_text())))
    assert len(rows) == 6
    said(capsys, "calibrate", f"--workdir={RUN}")
    out, _ = said(capsys, "check", RUN)
    assert "nothing is damaged or edited" in out
    said(capsys, "report", RUN, "--out=gs://bucket/pages/one.html")
    assert b"<html" in stand_in.buckets["bucket"]["pages/one.html"][1]


def test_it_is_used_and_exported(world, stand_in, capsys):
    photograph = "birds/owl/0.png"
    out, _ = said(
        capsys, "predict", f"--workdir={RUN}", photograph, "--json", "--page=gs://bucket/pages/new.html"
    )
    answer = json.loads(out.splitlines()[0])
    assert answer["classes"][0]["name"] == "owl"
    assert "pages/new.html" in stand_in.names()
    said(capsys, "embed", f"--workdir={RUN}", "birds", "--out=gs://bucket/birds.npz")
    out, _ = said(capsys, "search", "--gallery=gs://bucket/birds.npz", photograph)
    assert "owl/0.png" in out.splitlines()[1]
    said(capsys, "export", f"--workdir={RUN}", "--out=gs://bucket/exported/mine.jax")
    assert names(stand_in, "exported/") == {"mine.jax", "mine.jax.json", "mine_view.py"}
    about = stand_in.buckets["bucket"]["exported/mine.jax.json"]
    assert about[0] > max(
        stand_in.buckets["bucket"][f"exported/mine{end}"][0] for end in (".jax", "_view.py")
    )
    network = jax.export.deserialize(bytearray(files.path_of("gs://bucket/exported/mine.jax").read_bytes()))
    run = cdml_jax.load(RUN)
    assert run.class_names == tuple(json.loads(about[1])["class_names"])
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    logits, embeddings = run(images)
    for found, expected in zip(network.call(images), (logits / run.temperature, embeddings), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_features_and_the_beginning_of_a_run_may_be_there(world, stand_in, capsys):
    more = ["--config.model.name=tiny_map", "--config.data.data_dir=gs://bucket/cache", "--config.epochs=1"]
    said(capsys, *train("folder:birds", "gs://bucket/runs/map", *more))
    frozen = [*more, "--config.model.frozen=backbone", "--config.model.weights=gs://bucket/runs/map"]
    out, _ = said(capsys, *train("folder:birds", "gs://bucket/runs/frozen", *frozen))
    assert "The network begins as gs://bucket/runs/map was after epoch 1" in out
    kept = names(stand_in, "cache/features/")
    assert {name.rpartition(".")[2] for name in kept} == {"npy", "json"}
    before = {name: stand_in.buckets["bucket"][f"cache/features/{name}"] for name in kept}
    said(capsys, *train("folder:birds", "gs://bucket/runs/again", *frozen))
    assert {name: stand_in.buckets["bucket"][f"cache/features/{name}"] for name in kept} == before


PROFILE = ("--config.profile.steps=1", "--config.profile.start_step=1")
LOCAL = "on a disk of this machine"
REFUSED = {
    "folder": (train("folder:gs://bucket/birds", "new"), "cdml prepare folder:DIR --out=gs://BUCKET/SET"),
    "list": (train("list:gs://bucket/birds", "new"), "--config.source=array_record:gs://BUCKET/SET"),
    "published": (train("cub200:gs://bucket/cub", "new"), "cdml prepare cub200:DIR --out=gs://BUCKET/SET"),
    "no set": (train("array_record:gs://bucket/none", "new"), "gs://bucket/none: there is no such folder"),
    "no bucket": (train("array_record:gs://none/birds", "new"), "gs://none: there is no such bucket"),
    "weights": (
        train("folder:birds", "new", "--config.model.weights=gs://bucket/a.pth"),
        "fetch it, and give its",
    ),
    "boxes": (
        train("folder:birds", "new", "--config.data.boxes=gs://bucket/a.csv"),
        "data.boxes: gs://bucket/a.csv c",
    ),
    "costs": (
        train("folder:birds", "new", "--config.confusion.source=file:gs://bucket/a.csv"),
        "confusion.source: gs://bucket/a.csv cannot be read",
    ),
    "drawn birds": (
        ["train", "--config=demo", "--workdir=new", "--config.data.data_dir=gs://bucket/data"],
        f"data_dir: gs://bucket/data: birds are drawn {LOCAL}",
    ),
    "configuration": (["train", "--config=gs://bucket/mine.py"], "--config: no file gs://bucket/mine.py"),
    "photographs": (["predict", f"--workdir={RUN}", "gs://bucket/runs"], f"searched {LOCAL}; copy it here"),
    "photograph": (
        ["predict", f"--workdir={RUN}", "gs://bucket/a.png"],
        "gs://bucket/a.png: cannot be opened",
    ),
    "images": (
        ["embed", f"--workdir={RUN}", "gs://bucket/runs", "--out=a.npz"],
        f"searched {LOCAL}; copy it",
    ),
    "gallery": (
        ["search", "--gallery=gs://bucket/a.npz", "birds"],
        "there is no file gs://bucket/a.npz; cdml embed",
    ),
    "workdir": (
        train("folder:birds", "gs://none/run"),
        "gs://none: there is no such bucket; make it, or choose",
    ),
    "other cloud": (
        train("folder:birds", "s3://bucket/run"),
        "s3:// is neither read nor written; fetch what is",
    ),
    "run": (["evaluate", "--workdir=gs://bucket/none"], "gs://bucket/none holds no run (no config.json)"),
    "page": (["report", RUN, "--out=gs://none/page.html"], "gs://none: there is no such bucket"),
    "set": (
        ["prepare", "folder:birds", "--out=gs://bucket/runs/one"],
        "holds other files; choose an empty folder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(world, stand_in, capsys, case):
    arguments, what = REFUSED[case]
    before = stand_in.names()
    _, error = said(capsys, *arguments, status=2)
    assert what in error
    assert stand_in.names() == before
    assert not any(
        "gs:" in path.name or path.name in ("new", "none") for path in pathlib.Path.cwd().iterdir()
    )


def test_a_saved_model_is_whole_once_its_last_object_is_there(bucket, stand_in, monkeypatch):
    """TensorFlow, which writes to the disk, is not needed to see in which order its files are uploaded."""

    def save(run, folder):
        for name in ("saved_model.pb", "variables/variables.index"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(run)

    monkeypatch.setattr(export_tensorflow, "_save", save)
    out = files.path_of("gs://bucket/models/mine.savedmodel")
    for run in ("first", "second"):
        assert export_tensorflow.write_saved_model(run, out) == ("TensorFlow",)
    objects = {n: o for n, o in stand_in.buckets["bucket"].items() if n.startswith("models/")}
    assert {content for _, content in objects.values()} == {b"second"}
    assert max(objects, key=lambda name: objects[name]) == "models/mine.savedmodel/saved_model.pb"
    stand_in.buckets["bucket"]["models/other.savedmodel/notes"] = (1, b"")
    with pytest.raises(UserError, match="is there and is not a SavedModel"):
        export_tensorflow.write_saved_model("run", files.path_of("gs://bucket/models/other.savedmodel"))
