"""Mistakes, how each is made, and the message that it gets, which `messages.says` holds by its parts.

DIR is the folder of the test; … stands for what depends on other things.
"""

import json
import os
import shutil

import numpy as np
from bad_inputs import CLASSES, PICKLE, ROWS, SHIPPED_FOLDER, encoded, jpeg_of, picture, png_of
from PIL import Image

from cdml_jax.system.archives import sealed

ONE = "folder:DIR/birds cannot be used: 1 problem; correct or remove\n  "
LIST = "list:DIR/birds cannot be used: 1 problem; correct or remove\n  "


def _into_splits(birds):
    """The same six images of each class for training, one of them for validation too."""
    for name in CLASSES:
        shutil.copytree(birds / name, birds / "train" / name)
        (birds / "val" / name).mkdir(parents=True)
        shutil.move(birds / name / "0.png", birds / "val" / name)
        shutil.rmtree(birds / name)


def _without_method(run):
    stored = json.loads((run / "config.json").read_text())
    del stored["method"], stored["digest"]
    (run / "config.json").write_text(json.dumps(sealed(stored)))


def _edit(run):
    stored = run / "config.json"
    stored.write_text(stored.read_text().replace('"seed": 0', '"seed": 3'))


def _empty_checkpoints(run):
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def _prefixed(values):
    values.clear()
    values |= {f"module.model.{name}": np.ones(2) for name in ("conv1.weight", "bn1.weight", "tail.weight")}


def _in_style(style):
    def change(values):
        values.clear()
        values["features.0.0.weight"] = np.ones(2)
        return {"style": style}

    return change


CASES = [
    # Configurations.
    ("no configuration", lambda w: ["train"], "one --config=NAME is needed; NAME is a file or one of …"),
    (
        "no such configuration",
        lambda w: ["train", "--config=no_such"],
        "--config: no file no_such; shipped ones are …",
    ),
    (
        "a folder as configuration",
        lambda w: ["train", f"--config={w.root}"],
        "--config: no file DIR; shipped ones are …",
    ),
    (
        "syntax error",
        lambda w: w.config("def get_config(:\n"),
        "--config: DIR/mine.py cannot be loaded (SyntaxError: …",
    ),
    (
        "no get_config",
        lambda w: w.config("x = 1\n"),
        ("--config: DIR/mine.py has no get_config(); begin with base.get_config()"),
    ),
    (
        "get_config gives a number",
        lambda w: w.config("def get_config(): return 3\n"),
        "--config: get_config() gave int, not a ConfigDict; begin with base.get_config() of cdml_jax.configs",
    ),
    (
        "configuration that exits",
        lambda w: w.config("raise SystemExit('bye')\n"),
        "--config: DIR/mine.py cannot be loaded (SystemExit: bye, line 1)",
    ),
    (
        "configuration of zero bytes in text",
        lambda w: w.config(b"\0"),
        "--config: DIR/mine.py cannot be loaded (SyntaxError: …",
    ),
    (
        "own key misspelt",
        lambda w: w.base_config("c.batch_sizes = 3"),
        "batch_sizes: there is no such key; did you mean batch_size?",
    ),
    (
        "own key removed",
        lambda w: w.base_config("del c.batch_size"),
        "batch_size: the configuration lacks this key; begin with base.get_config() of cdml_jax.configs",
    ),
    (
        "own value of another type",
        lambda w: w.base_config("c.batch_size = 'many'"),
        "--config: DIR/mine.py cannot be loaded (TypeError: Could not override field 'batch_size'…",
    ),
    (
        "unknown key",
        lambda w: w.train("--config.objective.margn=3"),
        "--config.objective.margn: there is no such key; did you mean --config.objective.margin?",
    ),
    ("wrong type", lambda w: w.train("--config.epochs=1.5"), "--config.epochs: '1.5' is not an int"),
    (
        "out of range",
        lambda w: w.train("--config.epochs=0"),
        "epochs: 0 must be at least 1, or -1 to leave it to the images",
    ),
    (
        "not a number",
        lambda w: w.train("--config.optimizer.learning_rate=nan"),
        "optimizer.learning_rate: nan must be at least 0",
    ),
    (
        "infinite",
        lambda w: w.train("--config.optimizer.learning_rate=inf"),
        "optimizer.learning_rate: inf must be finite",
    ),
    (
        "seed too large",
        lambda w: w.train("--config.seed=4294967296"),
        "seed: 4294967296 must be below 2^32, with reproduce.seeds added",
    ),
    (
        "threads below zero",
        lambda w: w.train("--config.data.num_threads=-1"),
        "data.num_threads: -1 must be at least 0",
    ),
    (
        "unknown method",
        lambda w: w.train("--config.method=cdlm"),
        "method: 'cdlm' is unknown; did you mean cdml?",
    ),
    (
        "unknown option",
        lambda w: w.train("--worddir=x"),
        "unknown argument '--worddir=x'; options are those of --help and --config.KEY=VALUE",
    ),
    (
        "batch not for the devices",
        lambda w: w.train("--config.batch_size=12"),
        "batch_size: 12 rows cannot be split over 8 devices; choose a multiple of 8",
    ),
    (
        "batch larger than the set",
        lambda w: w.train("--config.batch_size=16"),
        "batch_size: 16 exceeds the 8 training images",
    ),
    (
        "unknown crop",
        lambda w: w.train("--config.image.crop=centre"),
        "image.crop must be one of random_resized, random, none, not 'centre'",
    ),
    (
        "scale upside down",
        lambda w: w.train("--config.image.scale=(1.0, 0.3)"),
        "image.scale must be two numbers with 0 < low <= high <= 1, not (1.0, 0.3)",
    ),
    (
        "shares leave nothing",
        lambda w: w.train("--config.data.test_fraction=0.6", "--config.data.validation_fraction=0.6"),
        "validation_fraction (0.6) and test_fraction (0.6) leave no training images",
    ),
    (
        "split that is not there",
        lambda w: w.train("--config.data.validation=val2"),
        "folder:DIR/birds: there is no sub-folder val2",
    ),
    # Sources and folders.
    (
        "unknown source",
        lambda w: w.train(source="zip:birds"),
        "unknown data set 'zip:birds': give synthetic_birds/demo, …",
    ),
    (
        "source without a folder",
        lambda w: w.train(source="folder:"),
        "'folder:' names no folder: write folder:DIR",
    ),
    (
        "absent folder",
        lambda w: w.train(source=f"folder:{w.root}/none"),
        "folder:DIR/none: there is no such folder",
    ),
    (
        "empty folder",
        lambda w: w.change(lambda d: [shutil.rmtree(d / name) for name in CLASSES]),
        (
            "folder:DIR/birds: no image in any class folder (.apng, …, .bmp, .dib, .gif, .jfi, .jfif, .jif, "
            ".jpe, .jpeg, .jpg, .pbm, .pgm, .pjp, .pjpeg, .png, .pnm, .ppm, .tif, .tiff, .webp)"
        ),
    ),
    (
        "file for a folder",
        lambda w: w.train(source=f"folder:{w.birds}/crow/0.png"),
        "folder:DIR/birds/crow/0.png: there is no such folder",
    ),
    (
        "one class",
        lambda w: w.change(lambda d: shutil.rmtree(d / "owl")),
        ONE + "fewer than two classes: crow",
    ),
    (
        "class without an image",
        lambda w: w.change(lambda d: (d / "emu").mkdir()),
        ONE + "class without a training image: emu",
    ),
    (
        "images beside class folders",
        lambda w: w.image(b"", "9.jpg"),
        ONE + "image outside the class folders: 9.jpg",
    ),
    ("link to itself", lambda w: w.link("self", "self"), ONE + "link that leads nowhere: self"),
    (
        "broken link to an image",
        lambda w: w.link("crow/9.png", "gone.png"),
        ONE + "link that leads nowhere: crow/9.png",
    ),
    ("broken link to a class", lambda w: w.link("jay", "gone"), ONE + "link that leads nowhere: jay"),
    (
        "pipe",
        lambda w: w.change(lambda d: os.mkfifo(d / "crow" / "9.png")),
        ONE + "neither a file nor a folder: crow/9.png",
    ),
    (
        "name in Latin-1",
        lambda w: w.change(lambda d: os.rename(d / "crow", os.fsencode(d) + b"/cr\xe9w")),
        (
            "folder:DIR/birds cannot be used: 2 problems; correct or remove\n  name that is not "
            "UTF-8: cr\\xe9w\n  fewer than two classes: owl"
        ),
    ),
    (
        "image in two splits",
        lambda w: w.change(_into_splits),
        (
            "folder:DIR/birds cannot be used: 2 problems; correct or remove\n  image in two "
            "splits (2): train/crow/0.png (in train) and val/crow/0.png (in validation), "
            "train/owl/0.png (in train) and val/owl/0.png (in validation)"
        ),
    ),
    # Images.
    (
        "truncated",
        lambda w: w.image(encoded(picture(1, 64, 64), "JPEG")[:900]),
        ONE + "image that cannot be read: crow/9.jpg (truncated)",
    ),
    (
        "truncated PNG",
        lambda w: w.image(encoded(picture(1, 64, 64), "PNG")[:900]),
        ONE + "image that cannot be read: crow/9.jpg (truncated)",
    ),
    ("zero bytes", lambda w: w.image(b""), ONE + "image that cannot be read: crow/9.jpg (zero bytes)"),
    (
        "text renamed",
        lambda w: w.image(b"This is no picture.\n" * 20),
        ONE + "image that cannot be read: crow/9.jpg (not an image that can be read)",
    ),
    (
        "a page that says 404",
        lambda w: w.image(b"<!DOCTYPE html><html><body>404</body></html>"),
        ONE + "image that cannot be read: crow/9.jpg (not an image that can be read: a web page)",
    ),
    (
        "a drawing in PostScript",
        lambda w: w.image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ONE + "image that cannot be read: crow/9.jpg (not an image that can be read: a PostScript document)",
    ),
    (
        "an archive",
        lambda w: w.image(b"PK\x03\x04" + bytes(100)),
        ONE + "image that cannot be read: crow/9.jpg (not an image that can be read: a ZIP archive)",
    ),
    (
        "header alone",
        lambda w: w.image(encoded(picture(1), "JPEG")[:30]),
        ONE + "image that cannot be read: crow/9.jpg (truncated)",
    ),
    (
        "JPEG bomb",
        lambda w: w.image(jpeg_of(60000, 60000)),
        ONE + ("image that cannot be read: crow/9.jpg (60000 x 60000 pixels, more than 178,956,970)"),
    ),
    (
        "PNG bomb",
        lambda w: w.image(png_of(50000, 50000)),
        ONE + ("image that cannot be read: crow/9.jpg (50000 x 50000 pixels, more than 178,956,970)"),
    ),
    (
        "floating point",
        lambda w: w.image(encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF")),
        ONE
        + (
            "image that cannot be read: crow/9.jpg (32-bit or floating-point pixels: save it "
            "with 8 bits a channel)"
        ),
    ),
    (
        "truncated animation",
        lambda w: w.image(encoded(picture(1, 64, 64), "GIF")[:900]),
        ONE + "image that cannot be read: crow/9.jpg (truncated)",
    ),
    # Lists.
    ("no list", lambda w: w.train(source=f"list:{w.birds}"), "list:DIR/birds: there is no train.txt"),
    (
        "UTF-16 without a mark",
        lambda w: w.lists(ROWS.encode("utf-16-le")),
        "DIR/birds/train.txt: not a text file; save it as UTF-8 text",
    ),
    (
        "Latin-1",
        lambda w: w.lists(ROWS.encode() + b"caf\xe9/1.png,0\n"),
        "DIR/birds/train.txt, line 13: not UTF-8 text; save the file as UTF-8",
    ),
    (
        "not text",
        lambda w: w.lists(b"\0\1\2" * 30),
        "DIR/birds/train.txt: not a text file; save it as UTF-8 text",
    ),
    (
        "no rows",
        lambda w: w.lists(""),
        (
            "list:DIR/birds cannot be used: 4 problems; correct or remove\n  fewer than two "
            "classes: none found\n  split without an image (3): train, test, validation"
        ),
    ),
    (
        "missing file",
        lambda w: w.lists(ROWS + "crow/99.png,0\n"),
        LIST + "file that does not exist: crow/99.png (train.txt line 13)",
    ),
    (
        "label out of range",
        lambda w: w.lists(ROWS.replace("owl/5.png,1", "owl/5.png,99")),
        LIST + "label out of range 0 to 1: owl/5.png has 99",
    ),
    (
        "negative label",
        lambda w: w.lists(ROWS.replace("owl/5.png,1", "owl/5.png,-1")),
        LIST + "label out of range 0 to 1: owl/5.png has -1",
    ),
    (
        "name for a label",
        lambda w: w.lists(ROWS + "owl/0.png,owl\n"),
        LIST + "label that is not a whole number: train.txt line 13 (owl) "
        "(a line is `path, label`; labels are numbers, which classes.csv can name)",
    ),
    (
        "absolute path",
        lambda w: w.lists(ROWS + "/etc/passwd.png,0\n"),
        LIST + "path that leaves the folder: /etc/passwd.png (train.txt line 13) "
        "(paths are relative to DIR/birds, and stay in it)",
    ),
    (
        "path out of the folder",
        lambda w: w.lists(ROWS + "crow/../../secret.png,0\n"),
        LIST + "path that leaves the folder: ../secret.png (train.txt line 13) "
        "(paths are relative to DIR/birds, and stay in it)",
    ),
    (
        "row twice",
        lambda w: w.lists(ROWS + "crow/0.png,1\n"),
        LIST + "image listed twice: crow/0.png (train.txt lines 1 and 13, with labels 0 and 1)",
    ),
    (
        "too few and too many columns",
        lambda w: w.lists(ROWS + "crow/0.png\ncrow/1.png,0,1,2\n"),
        (
            "list:DIR/birds cannot be used: 2 problems; correct or remove\n  line that is not "
            "`path, label[, coarse label]` (2): train.txt line 13 (crow/0.png), train.txt "
            "line 14 (crow/1.png,0,1,2)"
        ),
    ),
    (
        "one name for two labels",
        lambda w: w.lists(ROWS, classes="name,label\ncrow,0\ncrow,1\n"),
        LIST + "class name given twice: crow (classes.csv, labels 0 and 1)",
    ),
    (
        "label without a name",
        lambda w: w.lists(ROWS, classes="name,label\ncrow,0\nowl,2\n"),
        LIST + "label without a name: classes.csv has no 1; labels count from 0 without gaps",
    ),
    # Weights.
    (
        "unknown shipped name",
        lambda w: w.train("--config.model.weights=demo_downstream"),
        "model.weights: no file demo_downstream; shipped weights are demo_upstream…",
    ),
    (
        "NaN",
        lambda w: w.weights(lambda v: v["parameters.stem.kernel"].put(3, np.nan)),
        "model.weights: DIR/w.safetensors holds values that are not finite, in parameters.stem.kernel",
    ),
    (
        "missing array",
        lambda w: w.weights(lambda v: v.pop("parameters.stem.kernel")),
        "model.weights: DIR/w.safetensors does not fit the network; not in the file: parameters.stem.kernel",
    ),
    (
        "array too many",
        lambda w: w.weights(lambda v: v.update({"parameters.tail.kernel": np.ones(2)})),
        (
            "model.weights: DIR/w.safetensors does not fit the network; not in the network: "
            "parameters.tail.kernel"
        ),
    ),
    (
        "wrong shape",
        lambda w: w.weights(lambda v: v.update({"parameters.stem.kernel": np.ones((2, 2))})),
        "model.weights: parameters.stem.kernel is (2, 2) in DIR/w.safetensors, (3, 3, 12, 16) here",
    ),
    (
        "pickle renamed",
        lambda w: w.weights(PICKLE),
        "model.weights: DIR/w.safetensors …",  # by PyTorch's own reader, where it is installed
    ),
    (
        "another file renamed",
        lambda w: w.weights(b"\x89HDF\r\n\x1a\n more", "w.pth"),
        "model.weights: DIR/w.pth is an HDF5 file, as Keras writes them; save the arrays as .safetensors",
    ),
    (
        "a folder of weights",
        lambda w: w.train(f"--config.model.weights={w.birds}", "--config.model.name=resnet18"),
        "model.weights: DIR/birds is a folder that holds no run; give a file, or the workdir of a run",
    ),
    (
        "names that would act on a terminal",
        lambda w: w.weights(lambda v: v.update({"parameters.\x1b[2J\nx": np.ones(2)})),
        (
            r"model.weights: DIR/w.safetensors does not fit the network; not in the network: "
            r"parameters.\x1b[2J\nx"
        ),
    ),
    (
        "prefixed names that do not fit",
        lambda w: [*w.weights(_prefixed), "--config.model.name=resnet18"],
        (
            "model.weights: DIR/w.safetensors does not fit the network (torchvision's names, without "
            "module.model.); "
            "not in the network: tail.weight; not in the file: bn1.bias, …"
        ),
    ),
    (
        "whole numbers for weights",
        lambda w: w.weights(lambda v: v.update({"parameters.stem.kernel": np.ones((3, 3, 12, 16), np.int8)})),
        (
            "model.weights: DIR/w.safetensors holds numbers that are not floating-point (int8), in "
            "parameters.stem.kernel"
        ),
    ),
    (
        "a style that is not known",
        lambda w: [*w.weights(_in_style("caffe")), "--config.model.name=mobilenet_v2"],
        "model.weights: DIR/w.safetensors says that it is of the style 'caffe'; known are torchvision, …",
    ),
    (
        # The style itself is taken from the file.
        "a style that is taken",
        lambda w: [*w.weights(_in_style("tensorflow")), "--config.model.name=mobilenet_v2"],
        "model.weights: DIR/w.safetensors does not fit the network (torchvision's names); …",
    ),
    (
        "truncated weights",
        lambda w: w.weights((SHIPPED_FOLDER / "demo_upstream.safetensors").read_bytes()[:5000]),
        "model.weights: DIR/w.safetensors is not a readable safetensors file (Error while …",
    ),
    # Workdirs.
    (
        "file for a workdir",
        lambda w: w.run.write_text("") or w.train(),
        "--workdir: DIR/run cannot be written (File exists); choose another",
    ),
    (
        "nothing to evaluate",
        lambda w: ["evaluate", f"--workdir={w.run}"],
        "--workdir: DIR/run holds no run (no config.json)",
    ),
    (
        "another configuration",
        lambda w: w.continued("--config.objective.margin=0.5"),
        (
            "DIR/run holds a run of another configuration: objective.margin (0.2 there, 0.5 "
            "here); choose another --workdir, or delete it"
        ),
    ),
    (
        "another command",
        lambda w: ["reproduce", *w.continued()[1:], "--config.data.test_fraction=0.2"],
        "DIR/run holds a run of `cdml train`; choose another --workdir",
    ),
    (
        "in use",
        lambda w: w.in_use(),
        "DIR/run is in use by another run; wait for it, or choose another --workdir",
    ),
    (
        "other images",
        lambda w: w.continued(change=lambda run: (w.birds / "owl/0.png").rename(w.birds / "owl/7.png")),
        "DIR/run holds a run on other images of folder:DIR/birds; choose another --workdir",
    ),
    (
        "damaged config.json",
        lambda w: w.continued(change=lambda run: (run / "config.json").write_text("{")),
        "DIR/run/config.json cannot be read (Expecting …; choose another --workdir, or bring the file back",
    ),
    (
        "config.json of something else",
        lambda w: w.continued(change=lambda run: (run / "config.json").write_text("[]")),
        (
            "DIR/run/config.json cannot be read (it is not what a run writes); choose "
            "another --workdir, or bring the file back"
        ),
    ),
    (
        "config.json of an older version",
        lambda w: w.continued(change=_without_method) and ["evaluate", f"--workdir={w.run}"],
        (
            "--workdir: DIR/run does not say how its method is measured: it is of an older version; train it "
            "again"
        ),
    ),
    (
        "config.json edited",
        lambda w: w.continued("--config.seed=3", change=_edit),
        (
            "DIR/run/config.json is not as the run wrote it (edited, damaged, or of an older version); bring "
            "the file back, or choose another --workdir"
        ),
    ),
    (
        "config.json gone",
        lambda w: w.continued(
            "--config.optimizer.learning_rate=0.5", change=lambda run: (run / "config.json").unlink()
        ),
        (
            "DIR/run holds checkpoints and metrics.jsonl of a run whose config.json is gone; "
            "bring the file back, or choose another --workdir"
        ),
    ),
    (
        "table evaluated",
        lambda w: ["evaluate", w.table("baseline-seed0", "cdml-seed0")],
        (
            "--workdir: DIR/run holds a table's runs: choose one, such as DIR/run/runs/cdml-seed0 "
            "(baseline-seed0, cdml-seed0)"
        ),
    ),
    (
        "table predicted with",
        lambda w: ["predict", w.table("focal-seed1"), "bird.jpg"],
        "--workdir: DIR/run holds a table's runs: choose one, such as DIR/run/runs/focal-seed1 (focal-seed1)",
    ),
    (
        "table that has not begun",
        lambda w: ["export", w.table(), "--out=a.jax"],
        "--workdir: DIR/run holds a table of `cdml reproduce`, and no run of it has begun",
    ),
    (
        "older configuration",
        lambda w: w.continued(config={"objective.margn": 0.2}) and ["evaluate", f"--workdir={w.run}"],
        "objective.margn: there is no such key; did you mean objective.margin?",
    ),
    (
        "checkpoint of another network",
        lambda w: w.continued("--config.model.embedding_size=32", config={"model.embedding_size": 32}),
        (
            "checkpoint 0 in DIR/run/checkpoints is of another network or data set "
            "(state.parameters.heads.projection.kernel is float32 (128, 128) there, float32 "
            "(128, 32) here); choose another --workdir"
        ),
    ),
    (
        "checkpoint of fewer classes",
        lambda w: w.of_more_classes(),
        (
            "checkpoint 0 in DIR/run/checkpoints is of another network or data set "
            "(state.parameters.heads.classifier.bias is float32 (2,) there, float32 (3,) "
            "here); choose another --workdir"
        ),
    ),
    (
        "no whole checkpoint",
        lambda w: w.continued(change=_empty_checkpoints),
        (
            "checkpoint 0 in DIR/run/checkpoints is damaged: a description in it is not as it was written "
            "(JSONDecodeError: Expecting value: …)\ncdml: "
            "DIR/run/checkpoints: none of the checkpoints 0 can be read; delete the workdir "
            "to start again"
        ),
    ),
    (
        "evaluated before a checkpoint",
        lambda w: (
            w.continued(change=lambda run: shutil.rmtree(run / "checkpoints"))
            and ["evaluate", f"--workdir={w.run}"]
        ),
        "--workdir: DIR/run holds no checkpoint yet; train first",
    ),
    (
        "results damaged",
        lambda w: w.results(b"{"),
        (
            "DIR/run/results/cdml-seed0.npz is damaged (its digest is not that of its content): delete it, "
            "and the same command makes it again from the run's checkpoint"
        ),
    ),
    (
        "results of an older version",
        lambda w: w.results(b"{}", "cdml-seed0.json"),
        (
            "DIR/run/results/cdml-seed0.json was written by an older version; delete it and cdml-seed0.npz, "
            "and the same command trains this method and seed again"
        ),
    ),
]
