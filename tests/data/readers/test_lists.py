import unicodedata
from pathlib import Path

import numpy as np
import pytest

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import PREFIXED
from cdml_jax.data.readers.lists import read_lists
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

NAMES = {"train": "train", "holdout": "", "validation": "validation", "test": "test"}
GROCERY_HEADER = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Icon (str)"
GROCERY = Path(__file__).parents[2].parent / "shared" / "data" / "grocery"


@pytest.fixture
def read(write_pictures):
    """read(train="lines", classes="lines") -> Dataset; the images a/1.png to a/4.png are there."""

    def call(names=None, **files):
        folder = write_pictures("a/1.png", "a/2.png", "a/3.png", "a/4.png", "a/b, c.png")
        for stem, text in files.items():
            path = folder / (f"{stem}.csv" if stem == "classes" else f"{stem}.txt")
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        problems = Problems("list")
        dataset = read_lists(str(folder), NAMES | (names or {}), problems)
        problems.raise_if_any()
        return dataset

    return call


def _files(source):
    return [(source.name(i), label) for i, label in enumerate(source.labels.tolist())]


@pytest.mark.parametrize(
    "text",
    [
        "a/1.png,1\na/2.png,0\n",
        "  a/1.png ,  1 \r\n\r\n ./a//2.png, 0",
        "\ufeffa/1.png, 1\n\n\na/2.png, 0\n\n",
        "path, label\na/1.png, 1\na/2.png, 0\n",
        '"a/1.png", 1\na\\2.png, 0\n',
        "a/1.png, 1\na/2.png, 0\n".encode("utf-16"),
        "a/1.png, 1, 5\na/2.png, 0, 3\n",
        "image_path,label\na/1.png,1\na/2.png,0",
        '"filename","class_id"\n"a/1.png","1"\n"a/2.png","0"',
        "image_id, species, family\na/1.png, 1, 5\na/2.png, 0, 3\n",
        ",img,target\na/1.png,1\na/2.png,0",
        "a/1.png 1\na/2.png 0",
        "a/1.png\t1\t5\na/2.png\t0\t3",
        "path\tlabel\na/1.png\t1\na/2.png\t0",
        "file;label\na/1.png;1\na/2.png;0",
        "a/1.png    1   5\na/2.png    0   3",
    ],
    ids=[
        "plain",
        "spaces",
        "mark",
        "header",
        "quotes",
        "utf-16",
        "coarse",
        "image_path",
        "quoted header",
        "three columns",
        "header of an index",
        "space",
        "tab",
        "tab and header",
        "semicolon",
        "columns of spaces",
    ],
)
def test_lists_as_people_write_them(read, text):
    assert _files(read(train=text).splits["train"]) == [("a/1.png", 1), ("a/2.png", 0)]


def test_a_header_in_words_of_ones_own_is_noted(write_pictures):
    folder = write_pictures("a/1.png", "a/2.png")
    (folder / "train.txt").write_text("foto,vogel\na/1.png,0\na/2.png,1")
    problems = Problems("list")
    assert _files(read_lists(str(folder), NAMES, problems).splits["train"]) == [
        ("a/1.png", 0),
        ("a/2.png", 1),
    ]
    assert list(problems.lines()) == ["first line, taken for a header: train.txt line 1 (foto,vogel)"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_in_other_code_points_is_found(write_pictures, form):
    other = "NFD" if form == "NFC" else "NFC"
    name = "caf\u00e9/\u00e5.png"
    folder = write_pictures(unicodedata.normalize(other, name), "owl/1.png")
    listed = unicodedata.normalize(form, name)
    (folder / "train.txt").write_text(f"{listed},0\nowl/1.png,1\n")
    problems = Problems("list")
    train = read_lists(str(folder), NAMES, problems).splits["train"]
    problems.raise_if_any()
    assert train.name(0) == listed  # the same on every disk
    assert train.image(0)[:4] == b"\x89PNG"


def test_one_file_under_two_code_points_is_listed_twice(write_pictures):
    folder = write_pictures("caf\u00e9/1.png", "owl/1.png")
    (folder / "train.txt").write_text("caf\u00e9/1.png,0\nowl/1.png,1\ncafe\u0301/1.png,0\n")
    problems = Problems("list")
    read_lists(str(folder), NAMES, problems)
    assert list(problems.problems()) == ["image listed twice: cafe\u0301/1.png (train.txt lines 1 and 3)"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"class without a training image: 0 .labels count from 0; do yours begin at 1\?.$"),
        (
            "name,label\ncrow,0\nowl,1\n",
            r"crow .labels count from 0; do yours begin at 1\?.\n  label out of range 0 to 1 .*1\?.$",
        ),
        ("name,label\ncrow,1\nowl,2\n", r"classes.csv has no 0; .* .do yours begin at 1\?."),
    ],
    ids=["no table", "table from 0", "table from 1"],
)
def test_labels_that_begin_at_1_are_recognised(write_pictures, tmp_path, table, message):
    folder = write_pictures(*(f"a/{k}.png" for k in (1, 2, 3, 4)))
    (folder / "train.txt").write_text("".join(f"a/{k}.png,{1 + (k > 2)}\n" for k in (1, 2, 3, 4)))
    if table:
        (folder / "classes.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        load(f"list:{folder}", data_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("line", ["a/{}.png,crow", "{},a/1.png", "b/{}.png,0", "a/{}.png"])
def test_refused_lines_are_the_whole_message(write_pictures, tmp_path, line):
    folder = write_pictures(*(f"a/{k}.png" for k in (1, 2, 3)))
    (folder / "train.txt").write_text("".join(line.format(k) + "\n" for k in (1, 2, 3)))
    with pytest.raises(UserError) as caught:
        load(f"list:{folder}", data_dir=str(tmp_path / "cache"))
    _, *kinds = str(caught.value).splitlines()
    assert len(kinds) == 1
    assert "train.txt line 1" in kinds[0]
    assert "train.txt line 3" in kinds[0]


def test_equal_names_in_several_families_get_the_familys_in_front(write_pictures):
    folder = write_pictures("a/1.png", "a/2.png", "a/3.png")
    (folder / "train.txt").write_text("a/1.png,0\na/2.png,1\na/3.png,2")
    table = "name,label,coarse name,coarse label\nother,0,Greek,0\nred,1,Greek,0\nother,2,Korean,1\n"
    (folder / "classes.csv").write_text(table)
    problems = Problems("list")
    dataset = read_lists(str(folder), NAMES, problems)
    problems.raise_if_any()
    assert dataset.classes.names == ("Greek/other", "red", "Korean/other")
    assert list(problems.lines()) == [f"{PREFIXED}: Greek/other and Korean/other"]


def test_a_path_may_hold_commas(read):
    assert _files(read(train="a/b, c.png, 1, 0\na/1.png, 0, 0").splits["train"])[0] == ("a/b, c.png", 1)


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_each_list_is_a_split(read, validation):
    dataset = read(train="a/1.png,0\na/2.png,1", test="a/3.png,1", **{validation: "a/4.png,0"})
    assert {split: _files(source) for split, source in dataset.splits.items()} == {
        "train": [("a/1.png", 0), ("a/2.png", 1)],
        "validation": [("a/4.png", 0)],
        "test": [("a/3.png", 1)],
    }


def test_a_holdout_list_by_name(read):
    dataset = read({"holdout": "spare"}, train="a/1.png,0\na/2.png,1", spare="a/3.png,1")
    assert _files(dataset.splits["holdout"]) == [("a/3.png", 1)]


def test_without_a_table_classes_are_called_by_their_labels(read):
    dataset = read(train="a/1.png,0\na/2.png,1")
    assert dataset.classes.names == ("0", "1")
    assert dataset.classes.families is None


def test_coarse_labels_are_families_numbered_without_gaps(read):
    dataset = read(train="a/1.png,0,9\na/2.png,1,4\na/3.png,2,9")
    assert dataset.classes.families == (1, 0, 1)
    assert dataset.classes.family_names == ("4", "9")


@pytest.mark.parametrize(
    "table",
    [
        f"{GROCERY_HEADER}\nowl,1,night,7,x\ncrow,0,day,9,x\n",
        "coarse_id,coarse_name,class_id,class_name\n9,day,0,crow\n7,night,1,owl\n",
        "crow,0,day,9\nowl,1,night,7\n",
        "0,crow,day,9\n1,owl,night,7\n",
        "\ufeffcrow,0,day,9\r\n\r\nowl,1,night,7\r\n",
    ],
    ids=["header", "other columns", "by position", "label first", "mark"],
)
def test_the_class_table_gives_names_and_families(read, table):
    dataset = read(train="a/1.png,0\na/2.png,1", classes=table)
    assert dataset.classes.names == ("crow", "owl")
    assert dataset.classes.families == (1, 0)
    assert dataset.classes.family_names == ("night", "day")


def test_a_class_table_of_names_alone(read):
    dataset = read(train="a/1.png,0\na/2.png,1", classes="name,label\nowl,1\ncrow,0\n")
    assert (dataset.classes.names, dataset.classes.families) == (("crow", "owl"), None)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": "a/1.png, crow\n"}, r"label that is not a whole number: train.txt line 1 \(crow\)"),
        ({"train": "a/1.png, 1.5\n"}, r"label that is not a whole number: train.txt line 1 \(1.5\)"),
        ({"train": "a/1.png, 99999999999999999999\n"}, "label that is too large: train.txt line 1"),
        ({"train": "a/1.png, 0, red\n"}, r"not a whole number: train.txt line 1 \(0, red\)"),
        ({"train": "a/1.png\n"}, r"line that is not `path, label\[, coarse label\]`: train.txt line 1"),
        ({"train": "a/1.png, 0, 0, 0\n"}, "line that is not `path, label"),
        ({"train": "a/1.png, 0\na/9.png, 1\n"}, r"file that does not exist: a/9.png \(train.txt line 2\)"),
        (
            {"train": "a/1.png, 0\nA/2.PNG, 1\n"},
            r"file that does not exist: A/2.PNG \(train.txt line 2; there is a/2.png\)",
        ),
        ({"train": "x" * 5000 + ", 0\n"}, "file that does not exist: xxxxx"),
        (
            {"train": "a/1.png, 0, 3\na/2.png, 0, 4\n"},
            "class with two coarse labels: 0 has 3 .train.txt line 1., 4",
        ),
        ({"train": "a/1.png, 0, 3\na/2.png, 1\n"}, "class without a coarse label, which others have: 1"),
        (
            {"train": "a/caf\xe9.png, 0\n".encode("latin-1")},
            r"train.txt, line 1: not UTF-8 text; save the file as",
        ),
        ({"train": b"\x89PNG\r\n\x1a\n\0\0"}, "train.txt, line 1: not UTF-8 text"),
        ({"train": b"a/1.png\0, 0"}, "train.txt: not a text file"),
        ({"test": "a/1.png, 0\n"}, "there is no train.txt"),
        (
            {"train": "a/1.png,0", "classes": "crow,0\ncrow,1\n"},
            r"class name given twice: crow .classes.csv, labels 0 and 1",
        ),
        (
            {"train": "a/1.png,0", "classes": "crow,0\nowl,0\n"},
            "label given twice: classes.csv: 0 is crow and owl",
        ),
        ({"train": "a/1.png,0", "classes": "crow,1\nowl,2\n"}, "label without a name: classes.csv has no 0"),
        (
            {"train": "a/1.png,0", "classes": "crow,0\nowl\n"},
            r"line without a name and a whole number: classes.csv \(owl\)",
        ),
    ],
)
def test_a_list_that_cannot_be_right_is_refused_with_its_line(read, files, message):
    with pytest.raises(UserError, match=message):
        read(**files)


@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store photographs are not beside this checkout")
def test_the_grocery_store_photographs(tmp_path):
    dataset = load(f"list:{GROCERY}", data_dir=str(tmp_path), holdout_fraction=0.1)
    assert (dataset.num_classes, len(dataset.classes.family_names)) == (81, 43)
    assert {split: len(source) for split, source in dataset.splits.items()} == {
        "train": 2376,
        "holdout": 264,
        "validation": 296,
        "test": 2485,
    }
    label = dataset.classes.names.index("Royal-Gala")
    assert dataset.classes.family_names[dataset.classes.families[label]] == "Apple"
    assert np.bincount(dataset.splits["train"].labels, minlength=81).min() > 0


def problems_of(write_pictures, tmp_path, text):
    """The lines that refuse a training list of two images, after the first."""
    folder = write_pictures("a/1.png", "a/2.png")
    (folder / "train.txt").write_text(text)
    with pytest.raises(UserError) as caught:
        load(f"list:{folder}", data_dir=str(tmp_path / "cache"))
    return str(caught.value).splitlines()[1:]


@pytest.mark.parametrize(
    "header", ["label,path", "path,width,label", "path,label,split", "idx,path,label", "image;class;x1;y1"]
)
def test_a_header_of_other_columns_is_the_whole_message(write_pictures, tmp_path, header):
    text = f"{header}\na/1.png,0,640\na/2.png,1,640\n"
    assert problems_of(write_pictures, tmp_path, text) == [
        f"  header whose columns are not `path, label[, coarse label]`: train.txt line 1 ({header})"
    ]


@pytest.mark.parametrize(("labels", "shown"), [((2, 3), "2 to 3"), ((10001, 15001), "10001 to 15001")])
def test_labels_that_do_not_count_from_0_are_the_whole_message(write_pictures, tmp_path, labels, shown):
    text = f"a/1.png,{labels[0]}\na/2.png,{labels[1]}\n"
    assert problems_of(write_pictures, tmp_path, text) == [
        f"  labels that do not count from 0: they are {shown}; number the classes 0, 1, 2, …"
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": "a/1.png, crow\n"}, r"labels are numbers, which classes.csv can name"),
        ({"train": "0, a/1.png\n"}, r"\(a/1.png\) \(a line is `path, label`;"),
        ({"train": "a/1\u200b.png, 0\n"}, r"line 1; there is a/1.png, of other characters"),
        ({"train": "a/b,\u00a0c.png, 0\n"}, r"there is a/b, c.png, of other characters"),
    ],
)
def test_what_to_do_about_a_line_is_said(read, files, message):
    with pytest.raises(UserError, match=message):
        read(**files)


def test_a_list_of_another_name_is_named(tmp_path):
    (tmp_path / "train.csv").write_text("a/1.png,0\n")
    with pytest.raises(UserError, match=r"there is no train.txt \(there is train.csv: rename it\)$"):
        read_lists(str(tmp_path), NAMES, Problems("list"))
    with pytest.raises(UserError, match=r"train.csv: is a file: give its folder$"):
        read_lists(str(tmp_path / "train.csv"), NAMES, Problems("list"))


@pytest.mark.parametrize("between", [";", "\t"])
def test_a_class_table_of_other_separators(read, between):
    table = f"name{between}label\nowl, barn{between}1\ncrow{between}0\n"
    assert read(train="a/1.png,0\na/2.png,1", classes=table).classes.names == ("crow", "owl, barn")


def test_names_in_a_file_that_is_not_read_are_noted(write_pictures):
    folder = write_pictures("a/1.png", "a/2.png")
    (folder / "train.txt").write_text("a/1.png,0\na/2.png,1")
    (folder / "classes.txt").write_text("crow\nowl\n")
    problems = Problems("list")
    read_lists(str(folder), NAMES, problems)
    assert list(problems.lines()) == [
        "file that is not read, since names of classes come from classes.csv: classes.txt"
    ]


def test_paths_may_be_absolute_inside_the_folder(write_pictures):
    folder = write_pictures("a/1.png", "a/2.png")
    (folder / "train.txt").write_text(f"{folder}/a/1.png,0\na/2.png,1\n/elsewhere/3.png,1")
    problems = Problems("list")
    train = read_lists(str(folder), NAMES, problems).splits["train"]
    assert _files(train) == [("a/1.png", 0), ("a/2.png", 1)]
    (line,) = problems.problems()
    assert line.endswith(
        f"/elsewhere/3.png (train.txt line 3) (paths are relative to {folder}, and stay in it)"
    )


def test_one_image_listed_under_two_labels_is_said(read):
    with pytest.raises(UserError, match=r"a/1.png \(train.txt lines 1 and 3, with labels 0 and 1\)$"):
        read(train="a/1.png,0\na/2.png,1\na/1.png,1")
