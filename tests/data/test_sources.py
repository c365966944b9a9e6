import numpy as np
import pytest

from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

POOL = [f"{name}/{i}.png" for name, count in (("crow", 10), ("jay", 6), ("owl", 3)) for i in range(count)]


@pytest.fixture
def pool(write_pictures, tmp_path):
    """pool(**options) -> the pool's Dataset."""
    folder = write_pictures(*POOL)
    return lambda **options: load(f"folder:{folder}", data_dir=str(tmp_path / "cache"), **options)


def _names(source):
    return {source.name(i) for i in range(len(source))}


def test_one_pool_is_carved_into_disjoint_splits(pool):
    dataset = pool(validation_fraction=0.2, test_fraction=0.3, holdout_fraction=0.1)
    parts = {split: _names(source) for split, source in dataset.splits.items()}
    assert {split: len(names) for split, names in parts.items()} == {
        "train": 8,
        "test": 6,
        "validation": 4,
        "holdout": 1,
    }
    assert set.union(*parts.values()) == set(POOL)
    assert set(dataset.splits["train"].labels.tolist()) == {0, 1, 2}


def test_the_test_split_does_not_depend_on_the_other_shares(pool):
    tests = [_names(pool(test_fraction=0.3, validation_fraction=f).splits["test"]) for f in (0.0, 0.3)]
    assert tests[0] == tests[1]


def test_the_same_request_gives_the_same_fingerprint(pool):
    assert pool(test_fraction=0.3).fingerprint() == pool(test_fraction=0.3).fingerprint()
    assert pool(test_fraction=0.3).fingerprint() != pool(test_fraction=0.4).fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fraction": 0.5, "validation_fraction": 0.5}, "leave no training images"),
        ({"holdout_fraction": 1.0}, "holdout_fraction must be at least 0 and less than 1, not 1.0"),
        ({"test_fraction": -0.1}, "test_fraction must be at least 0"),
        ({"validation_fraction": float("nan")}, "validation_fraction must be"),
        ({"holdout": "test"}, "holdout and test are both 'test': splits must not overlap"),
        ({"train": ""}, "train must name a split"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_anything_is_read(options, message):
    with pytest.raises(UserError, match=message):
        load("folder:never-looked-at", **options)


def test_a_share_is_taken_only_where_the_set_has_no_such_split(write_pictures, tmp_path):
    folder = write_pictures(
        *(f"train/{bird}/{k}.png" for bird in ("crow", "owl") for k in range(4)),
        "test/crow/9.png",
        "test/owl/9.png",
    )
    dataset = load(f"folder:{folder}", data_dir=str(tmp_path), test_fraction=0.25, validation_fraction=0.5)
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 4,
        "test": 2,
        "validation": 4,
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("folder:", "'folder:' names no folder: write folder:DIR"),
        ("list:nowhere", "list:nowhere: there is no such folder"),
        ("cub200:", r"write cub200:DIR, where CUB.*`cdml prepare cub200`.*=synthetic_birds/cub_like has its"),
        ("grocery:", r"write grocery:DIR, where Grocery Store was extracted \(`cdml prepare grocery` says"),
        (
            "no_such_set",
            "unknown data set 'no_such_set': give synthetic_birds/demo, folder:DIR, list:DIR or a TFDS",
        ),
        ("tfds:no_such_set/x", "unknown data set 'no_such_set/x'"),
        ("flder:images", "unknown data set 'flder:images'"),
        ("", "unknown data set ''"),
        ("synthetic_birds/dmo", "dmo"),
    ],
)
def test_an_unknown_data_set_is_refused(source, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load(source, data_dir=str(tmp_path))


@pytest.fixture
def no_home(monkeypatch):
    for name in ("CDML_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)


def test_a_folder_is_read_where_no_home_is_known(no_home, write_pictures):
    assert load(f"folder:{write_pictures(*POOL)}").num_classes == 3


def test_what_must_be_kept_needs_a_home(no_home):
    with pytest.raises(UserError, match="no home folder is known: set CDML_DATA_DIR"):
        load("synthetic_birds/demo")


def test_labels_are_int32_whatever_the_source(pool):
    assert pool().splits["train"].labels.dtype == np.int32
