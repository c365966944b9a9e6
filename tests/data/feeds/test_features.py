"""Features computed once: every image in every view, kept on disk, computed again where they are damaged."""

import pickle

import numpy as np
import pytest
from etils import epath

from cdml_jax.data import ArraySource
from cdml_jax.data.feeds import features
from cdml_jax.data.feeds.feed import ImageFeed
from cdml_jax.data.images import transforms
from cdml_jax.data.images.transforms import Transform
from cdml_jax.errors import UserError

TRANSFORM = Transform(16, crop="none", resize=16, jitter=0.3)


@pytest.fixture
def source(picture):
    return ArraySource([picture(seed, 20, 24) for seed in range(7)], np.arange(7) % 3)


def front(images):
    return images.astype(np.float32).mean(axis=(1, 2)) / 255


def embedded(source, folder, views=2, front=front, cache_bytes=0, anywhere=bool, **made_by):
    images = ImageFeed(source, TRANSFORM, batch_size=4, num_threads=0, cache_bytes=cache_bytes)
    return features.embedded(
        images, front, folder=epath.Path(folder), made_by=made_by, views=views, anywhere=anywhere
    ).features


def test_the_first_view_of_an_image_is_the_evaluation_view(source, tmp_path):
    computed = embedded(source, tmp_path)
    expected = [front(transforms.evaluation_view(source.image(i), TRANSFORM)[None])[0] for i in range(7)]
    assert computed.shape == (7, 3, 3)
    np.testing.assert_array_equal(computed[:, 0], expected)


def test_augmented_views_differ_from_each_other(source, tmp_path):
    computed = embedded(source, tmp_path)
    assert (computed[:, 1] != computed[:, 2]).any(axis=1).all()


def test_features_do_not_depend_on_what_is_kept_in_memory(source, tmp_path):
    large = ArraySource([np.tile(source.image(i), (3, 3, 1)) for i in range(7)], source.labels)
    computed = [embedded(large, tmp_path / str(size), cache_bytes=size) for size in (0, 2**20)]
    np.testing.assert_array_equal(*computed)


def test_features_are_computed_once(source, tmp_path):
    first = embedded(source, tmp_path)
    again = embedded(source, tmp_path, front=None)
    np.testing.assert_array_equal(first, again)
    assert not list(tmp_path.glob(".*"))


def test_all_processes_compute_where_one_lacks_them(source, tmp_path):
    embedded(source, tmp_path)
    calls = []
    embedded(
        source, tmp_path, front=lambda images: calls.append(1) or front(images), anywhere=lambda lacks: True
    )
    assert len(calls) == 6


@pytest.mark.parametrize("change", [{"views": 1}, {"weights": "others"}])
def test_other_views_or_weights_are_computed_again(source, tmp_path, change):
    embedded(source, tmp_path)
    calls = []
    embedded(source, tmp_path, front=lambda images: calls.append(1) or front(images), **change)
    assert calls


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        (".npy", flip_a_bit),
        (".npy", lambda path: path.write_bytes(path.read_bytes()[:-8])),
        (".npy", lambda path: path.write_bytes(b"")),
        (".npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': O}")),
        (".npy", lambda path: np.save(path, np.zeros((7, 3, 3), np.int32))),
        (".npy", lambda path: np.save(path, np.zeros((6, 3, 3), np.float32))),
        (".json", lambda path: path.write_text("{")),
        (".json", lambda path: path.write_text("null")),
        (".json", lambda path: path.write_text(path.read_text().replace("stamp", "stanp"))),
        (".json", lambda path: path.unlink()),
        (".json", lambda path: path.write_text("[" * 100_000)),
        (".npy", lambda path: path.write_bytes(path.read_bytes().replace(b"(7, 3, 3)", b"(-7,3, 3)"))),
        (".npy", lambda path: path.write_bytes(path.read_bytes().replace(b"{'descr", b"{{{{{{{"))),
        (".npy", lambda path: path.write_bytes(pickle.dumps([1.0]))),
    ],
    ids=[
        "bit",
        "cut",
        "empty",
        "header",
        "dtype",
        "shape",
        "note",
        "null",
        "key",
        "no_note",
        "deep",
        "negative",
        "brackets",
        "pickle",
    ],
)
def test_damaged_features_are_computed_again_with_a_warning(source, tmp_path, capsys, suffix, spoil):
    whole = embedded(source, tmp_path)
    (path,) = tmp_path.glob(f"*{suffix}")
    spoil(path)
    for _ in range(2):
        np.testing.assert_array_equal(embedded(source, tmp_path), whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cdml: {path.with_suffix('.npy')} is damaged (")
    assert line.endswith("): these features are computed again")
    assert "allow_pickle" not in line


def test_any_flipped_bit_of_a_header_is_damage(source, tmp_path, capsys):
    """NumPy parses it as Python, which fails in many ways."""
    whole = embedded(source, tmp_path)
    (path,) = tmp_path.glob("*.npy")
    data = path.read_bytes()
    for bit in range(0, 8 * 128, 5):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        read = features._read(path, whole.shape[:2])
        said = capsys.readouterr().err
        assert (read is None and "is damaged (" in said) or (np.array_equal(read, whole) and not said)
    path.write_bytes(data.replace(b"(6, 3, 3)", b"(10**99,)"))
    np.testing.assert_array_equal(embedded(source, tmp_path), whole)


def test_features_without_rights_are_not_called_damaged(source, tmp_path, capsys, monkeypatch):
    whole = embedded(source, tmp_path)

    def shut(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(features, "_load", shut)
    np.testing.assert_array_equal(embedded(source, tmp_path), whole)
    assert "npy cannot be opened (Permission denied): these features" in capsys.readouterr().err


def test_features_that_were_copied_are_whole(source, tmp_path, capsys):
    whole = embedded(source, tmp_path)
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes())
    np.testing.assert_array_equal(embedded(source, tmp_path, front=None), whole)
    assert not capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"features cannot be kept in .*file"):
        embedded(source, tmp_path / "file")
