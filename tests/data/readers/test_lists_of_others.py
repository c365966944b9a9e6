"""Lists as other programs write them, and what lies beside lists."""

import pytest

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import ALIKE
from cdml_jax.data.readers.lists import read_lists
from cdml_jax.errors import UserError

NAMES = {"train": "train", "holdout": "", "validation": "validation", "test": "test"}
TRAIN = "a/1.png,0\na/2.png,1\n"


@pytest.fixture
def read(write_pictures):
    """read({"train.txt": lines}) -> (name and label of each training image, what is noted)."""

    def call(files):
        folder = write_pictures("a/1.png", "a/2.png")
        for name, text in files.items():
            (folder / name).write_text(text.replace("DIR", str(folder)))
        problems = Problems("list")
        train = read_lists(str(folder), NAMES, problems).splits["train"]
        problems.raise_if_any()
        return [(train.name(i), int(label)) for i, label in enumerate(train.labels)], list(problems.lines())

    return call


@pytest.mark.parametrize(
    "text",
    [
        ",path,label\n0,a/1.png,0\n1,a/2.png,1\n",
        '"","path","label"\n"1","a/1.png","0"\n"2","a/2.png","1"\n',
        "\tfile\tclass_id\n0\ta/1.png\t0\n1\ta/2.png\t1\n",
        "a/1.png,0,\na/2.png,1,\n",
    ],
    ids=["pandas", "R", "pandas with tabs", "a separator at the end"],
)
def test_what_tables_write_is_read(read, text):
    assert read({"train.txt": text}) == ([("a/1.png", 0), ("a/2.png", 1)], [])


def test_equal_names_in_other_code_points_are_named(read):
    files = {"train.txt": TRAIN, "classes.csv": "caf\u00e9,0\ncafe\u0301,1\n"}
    with pytest.raises(UserError, match=r"class name given twice: caf. .classes.csv, labels 0 and 1"):
        read(files)


def test_lists_that_are_not_read_are_noted(read):
    others = {"val.txt": "", "validation.txt": "a/1.png,0", "test.csv": "", "README.txt": ""}
    assert "list that is not read (2): test.csv, val.txt" in read({"train.txt": TRAIN, **others})[1]
    assert read({"train.txt": TRAIN, "classes.csv": "Owl,0\nowl,1\n"})[1][-1] == f"{ALIKE}: 'Owl' and 'owl'"
