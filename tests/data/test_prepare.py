import dataclasses
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from messages import says
from miniature_archives import WRITERS
from PIL import Image

from cdml_jax.cli import main as cli
from cdml_jax.data.published.catalogue import SETS
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

GROCERY = Path(__file__).parents[2].parent / "shared" / "data" / "grocery"


@pytest.fixture
def cub(tmp_path, monkeypatch):
    """The folder of a miniature that counts as the whole set."""
    expected = WRITERS["cub200"](tmp_path / "cub")
    counts = {split: len(rows) for split, rows in expected.splits.items()}
    whole = dataclasses.replace(SETS["cub200"], num_classes=3, counts=counts)
    monkeypatch.setitem(SETS, "cub200", whole)
    return tmp_path / "cub"


def _prepare(tmp_path, *arguments):
    return cli.main(["prepare", *arguments, f"--data-dir={tmp_path / 'cache'}"])


def test_a_whole_set_is_counted(cub, tmp_path, capsys):
    assert _prepare(tmp_path, f"cub200:{cub}", "--classes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "CUB-200-2011: 3 classes" in lines
    assert "  train                3 images, 1 to 1 a class" in lines
    assert "  test                 2 images, 0 to 1 a class" in lines
    assert "2\t1\t0\tRed winged Blackbird" in lines
    assert "Every image can be read." in lines
    assert lines[-1] == f"Use it: --config.source=cub200:{cub}"
    assert any(line.startswith("Split checksum ") and "not known here" in line for line in lines)


def test_a_set_that_lacks_images_is_refused_after_counting_it(tmp_path, capsys):
    WRITERS["cub200"](tmp_path / "cub")
    assert _prepare(tmp_path, f"cub200:{tmp_path / 'cub'}", f"--out={tmp_path / 'out'}") == 2
    text = capsys.readouterr()
    assert "train                3 images" in text.out
    assert "is not CUB-200-2011 as published: 3 classes, not 200; 3 images in train, not 5,994" in text.err
    assert not (tmp_path / "out").exists()


def test_files_that_are_missing_come_with_their_archive(cub, tmp_path, capsys):
    next((cub / "CUB_200_2011/images").rglob("*.jpg")).unlink()
    assert _prepare(tmp_path, f"cub200:{cub}") == 2
    first, *others = capsys.readouterr().err.strip().splitlines()
    assert first.startswith(f"cdml: cub200:{cub} cannot be used: 1 problem")
    assert others[0].startswith("  file that does not exist: 0")
    assert others[-1].startswith("The archives: CUB_200_2011.tgz (1.15 GB, https://")


def test_records_are_written_and_named(cub, tmp_path, capsys):
    out = tmp_path / "out"
    assert _prepare(tmp_path, f"cub200:{cub}", f"--out={out}") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Use it: --config.source=array_record:{out}"
    assert _prepare(tmp_path, f"array_record:{out}") == 0
    assert "CUB-200-2011: 3 classes" in capsys.readouterr().out


def _spoilt(folder):
    """A folder with one of everything that is used as it is or left out, under three classes."""
    shutil.copyfile(folder / "crow/0.png", folder / "crow/copy.png")
    shutil.copyfile(folder / "crow/1.png", folder / "owl/crow.png")
    Image.open(folder / "owl/2.png").resize((64, 48)).save(folder / "owl/large.jpg", quality=90)
    jpeg = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(jpeg, "JPEG")
    (folder / "jay/half.jpg").write_bytes(jpeg.getvalue()[:2000] + b"\xff\xd9")
    (folder / "jay/1.heic").write_bytes(b"")
    (folder / "jay/@eaDir").mkdir()
    return folder


@pytest.fixture
def spoilt(write_pictures):
    return _spoilt(write_pictures(*(f"{name}/{k}.png" for name in ("crow", "jay", "owl") for k in range(12))))


def test_all_that_is_worth_a_look_is_listed_and_written(spoilt, tmp_path, capsys):
    report = tmp_path / "report.tsv"
    assert _prepare(tmp_path, f"folder:{spoilt}", f"--report={report}") == 0
    said = capsys.readouterr()
    lines = said.err.replace(f"cdml: folder:{spoilt}: ", "").splitlines()
    together = ", which a drawn split keeps together"
    assert lines == [
        "left out, .heic: jay/1.heic (save them as JPEG or PNG, with the ending .jpg or .png)",
        "folder that a system or a program keeps for itself, passed over: jay/@eaDir",
        "image with damaged data, used as it is: jay/half.jpg (premature end of data segment)",
        f"copies of one image in a class{together}: crow/0.png and crow/copy.png",
        f"one image under several classes{together}: crow/1.png (crow) and owl/crow.png (owl)",
        "nearly equal images in a class: owl/2.png and owl/large.jpg",
    ]
    assert "Every image can be read; what is worth a look stands above" in said.out
    assert "As --config=own_images divides it: 28 train, 6 test, 6 validation\n" in said.out
    header, *rows = [line.split("\t") for line in report.read_text().splitlines()]
    assert header == ["verdict", "kind", "place"]
    assert [row[0] for row in rows] == ["left out"] + ["note"] * 5
    assert [row[2] for row in rows][:2] == ["jay/1.heic", "jay/@eaDir"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crow/0.png", "is there and no such report; choose another name"),
        ("crow", "is a folder; give a file"),
        ("none/report.tsv", "there is no folder "),
    ],
)
def test_a_report_replaces_nothing_but_a_report(spoilt, tmp_path, capsys, name, message):
    before = {path: path.read_bytes() for path in spoilt.rglob("*.png")}
    assert _prepare(tmp_path, f"folder:{spoilt}", f"--report={spoilt / name}") == 2
    said = capsys.readouterr()
    assert said.err.startswith("cdml: --report: ")
    assert message in said.err
    assert not said.out  # before any image is read
    assert {path: path.read_bytes() for path in spoilt.rglob("*.png")} == before


def test_a_report_is_written_again(spoilt, tmp_path, capsys):
    for _ in range(2):
        assert _prepare(tmp_path, f"folder:{spoilt}", f"--report={tmp_path / 'report.tsv'}") == 0


def test_what_was_noted_is_said_once_where_the_division_is_refused(write_pictures, tmp_path, capsys):
    folder = write_pictures("crow/0.png", "owl/0.png")
    for name in ("crow", "owl"):
        for k in range(1, 12):
            shutil.copyfile(folder / name / "0.png", folder / name / f"{k}.png")
    assert _prepare(tmp_path, f"folder:{folder}") == 2
    said = capsys.readouterr().err
    assert said.count("copies of one image in a class") == 1
    assert "split without an image (2): test (15% of 24 images" in said


def test_training_says_the_same_in_a_line_each(spoilt, tmp_path, capsys):
    load(f"folder:{spoilt}", data_dir=str(tmp_path), test_fraction=0.15, validation_fraction=0.15)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0].endswith(
        "left out: 1 .heic (such as jay/1.heic); save them as JPEG or PNG, with the ending .jpg or .png"
    )


def _one_a_class(folder):
    for name in ("crow", "jay", "owl"):
        for k in range(1, 12):
            (folder / f"{name}/{k}.png").unlink()


def _all_copies(folder):
    for name in ("crow", "jay", "owl"):
        for k in range(1, 12):
            shutil.copyfile(folder / f"{name}/0.png", folder / f"{name}/{k}.png")


def _copies(folder):
    for k in range(11):
        shutil.copyfile(folder / f"crow/{k}.png", folder / f"crow/{k} (copy).png")


def _labels(folder):
    for k in range(6):
        shutil.copyfile(folder / f"crow/{k}.png", folder / f"owl/x{k}.png")


@pytest.mark.parametrize(
    ("change", "refused"),
    [(_one_a_class, True), (_all_copies, True), (_copies, False), (_labels, False), (_spoilt, False)],
)
def test_what_it_passes_training_takes(write_pictures, tmp_path, capsys, change, refused):
    folder = write_pictures(*(f"{name}/{k}.png" for name in ("crow", "jay", "owl") for k in range(12)))
    change(folder)
    assert _prepare(tmp_path, f"folder:{folder}") == (2 if refused else 0)
    said = capsys.readouterr().err
    if refused:
        assert "split without an image (2): test (" in said
        assert "; set data.test_fraction), validation (" in said
        with pytest.raises(UserError, match="split without an image"):
            load(f"folder:{folder}", data_dir=str(tmp_path), test_fraction=0.15, validation_fraction=0.15)
    else:
        load(f"folder:{folder}", data_dir=str(tmp_path), test_fraction=0.15, validation_fraction=0.15)


def test_problems_and_notes_are_written_together(spoilt, tmp_path, capsys):
    for k in range(14):
        (spoilt / f"crow/bad{k:02}\n.png").write_bytes(b"")
    report = tmp_path / "report.tsv"
    assert _prepare(tmp_path, f"folder:{spoilt}", f"--report={report}") == 2
    said = capsys.readouterr().err
    assert "  image that cannot be read (14):\n    crow/bad00\\n.png (zero bytes)\n    crow/bad01" in said
    assert said.count("(zero bytes)") == 14
    assert "left out, .heic: jay/1.heic" in said
    verdicts = [line.split("\t")[0] for line in report.read_text().splitlines()]
    assert verdicts == ["verdict"] + ["problem"] * 14 + ["left out"] + ["note"] * 5


def test_a_cache_folder_that_cannot_be_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("CDML_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cli.main(["prepare", "synthetic_birds/demo"]) == 2
    place = tmp_path / "file/cdml_jax"
    assert says(
        f"cdml: data.data_dir: {place} cannot be written (Not a directory); set CDML_DATA_DIR\n",
        capsys.readouterr().err,
    )


def test_what_needs_no_cache_needs_no_home(spoilt, monkeypatch, capsys):
    for name in ("CDML_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert cli.main(["prepare", f"folder:{spoilt}"]) == 0
    assert cli.main(["prepare", "synthetic_birds/demo"]) == 2
    assert capsys.readouterr().err.endswith(
        "cdml: no home folder is known: set CDML_DATA_DIR to a folder for caches\n"
    )


@pytest.mark.parametrize("key", SETS)
def test_a_name_alone_tells_where_to_get_the_set(key, capsys):
    assert cli.main(["prepare", key]) == 0
    text = capsys.readouterr().out
    assert SETS[key].title in text
    assert "Terms: " in text
    assert "https://" in text or "http://" in text
    assert f"cdml prepare {key}:DIR" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cub20:x/y"], "unknown data set 'cub20:x/y'.*cub200:DIR, cars196:DIR.*grocery:DIR"),
        (["cub200:"], "cub200: names no folder: write cub200:DIR"),
        (["cub200:x", "--in=y"], "prepare: unknown argument '--in=y'"),
    ],
)
def test_mistakes_are_answered_in_one_line(arguments, message, capsys):
    assert cli.main(["prepare", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line


@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store photographs are not beside this checkout")
def test_the_grocery_store_photographs_are_as_published(tmp_path, capsys):
    assert _prepare(tmp_path, f"grocery:{GROCERY}", "--no-images") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Grocery Store: 81 classes in 43 families" in lines
    assert f"Split checksum {SETS['grocery'].checksum} (as published)" in lines


def test_what_was_said_is_not_said_again_with_a_refusal(write_pictures, tmp_path, capsys):
    folder = write_pictures("crow/0.png", "owl/0.png")
    for name in ("crow", "owl"):
        for k in range(1, 4):
            (folder / f"{name}/{k}.png").write_bytes((folder / f"{name}/0.png").read_bytes())
    assert _prepare(tmp_path, f"folder:{folder}") == 2
    said = capsys.readouterr().err
    assert said.count("copies of one image in a class") == 1
    assert "split without an image (2)" in said


def test_a_class_that_splits_spell_in_two_ways_is_named(write_pictures, tmp_path, capsys):
    names = (("train", ("Crow", "barn owl")), ("test", ("crow", "barn_owl ")))
    folder = write_pictures(*(f"{s}/{name}/{s}{k}.png" for s, both in names for name in both for k in (1, 2)))
    assert _prepare(tmp_path, f"folder:{folder}") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("(2): 'barn_owl ' (train has 'barn owl'), 'crow' (train has 'Crow')")
