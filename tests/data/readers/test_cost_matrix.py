"""Cost matrices from CSV files."""

import numpy as np
import pytest

from cdml_jax.data.classes import Classes
from cdml_jax.data.readers.cost_matrix import read_costs
from cdml_jax.errors import UserError

CLASSES = Classes(("crow", "owl", "wren, house"))
GOOD = ',owl,"wren, house",crow\n"wren, house",1,0,2\ncrow,3,4,0\nowl,0,5,6\n'


def test_classes_may_be_in_any_order(tmp_path):
    file = tmp_path / "costs.csv"
    file.write_text(GOOD, encoding="utf-8-sig")
    np.testing.assert_array_equal(read_costs(file, CLASSES), [[0, 3, 4], [6, 0, 5], [2, 1, 0]])


@pytest.mark.parametrize(("listed", "named"), [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")])
def test_names_are_found_in_other_code_points(tmp_path, listed, named):
    (tmp_path / "costs.csv").write_text(f",Greek/a,{listed}\n{listed},2,0\nGreek/a,0,1\n", encoding="utf-8")
    np.testing.assert_array_equal(
        read_costs(tmp_path / "costs.csv", Classes((named, "Greek/a"))), [[0, 2], [1, 0]]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (GOOD.replace("crow,3", "crew,3"), "first column: 'crew' is not a class.*did you mean 'crow'"),
        (GOOD.replace("\ncrow,3,4,0", ""), "first column: 'crow' is missing"),
        (GOOD + "owl,0,5,6\n", "first column: 'owl' stands there twice"),
        (GOOD.replace(",owl", ""), "first row: 'owl' is missing"),
        (GOOD.replace("3,4,0", "3,4"), "the row of crow has 2 costs, not 3"),
        (GOOD.replace("3,4,0", "3,high,0"), "crow, wren, house: 'high' is not a number"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, content, message):
    file = tmp_path / "costs.csv"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        read_costs(file, CLASSES)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none.csv cannot be read \(No such file"):
        read_costs(tmp_path / "none.csv", CLASSES)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"bytes\.csv cannot be read"):
        read_costs(tmp_path / "bytes.csv", CLASSES)
