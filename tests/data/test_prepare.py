import dataclasses
import re
from pathlib import Path

import pytest
from miniature_archives import WRITERS

from cdml_jax.cli import main as cli
from cdml_jax.data.published.catalogue import SETS

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
