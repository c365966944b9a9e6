"""A gallery on disk, searched."""

import numpy as np
import pytest

from cdml_jax.errors import UserError
from cdml_jax.inference.gallery import Gallery, read, save


@pytest.fixture
def gallery():
    rows = np.random.default_rng(0).normal(size=(7, 5))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Gallery(tuple(f"b/{k}.jpg" for k in range(7)), rows, "/runs/mine", True, "ab" * 32)


def test_what_was_written_is_read(gallery, tmp_path):
    save(gallery, tmp_path / "g.npz", {"logits": np.ones((7, 2))})
    found = read(tmp_path / "g.npz")
    assert (found.paths, found.workdir, found.best, found.network) == (
        gallery.paths,
        "/runs/mine",
        True,
        "ab" * 32,
    )
    assert np.array_equal(found.embeddings, gallery.embeddings)
    assert np.load(tmp_path / "g.npz")["logits"].shape == (7, 2)


def test_the_most_similar_come_first(gallery):
    queries = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    for query, matches in zip(queries, gallery.search(queries, top=3), strict=True):
        cosines = gallery.embeddings.astype(np.float64) @ query
        order = np.argsort(((gallery.embeddings.astype(np.float64) - query) ** 2).sum(1))[:3]
        assert [match.path for match in matches] == [gallery.paths[place] for place in order]
        np.testing.assert_allclose([match.similarity for match in matches], cosines[order], atol=1e-6)


def test_a_small_gallery_gives_what_it_has(gallery):
    (matches,) = gallery.search(gallery.embeddings[:1], top=50)
    assert len(matches) == 7
    assert matches[0] == ("b/0.jpg", pytest.approx(1, abs=1e-6))


def archive(path, **arrays):
    np.savez(path, **arrays)


GOOD = {"workdir": np.array("w"), "best": np.array(False), "network": np.array("d")}


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "there is no file .*; cdml embed writes one"),
        (lambda path: path.write_bytes(b"PK\x03\x04 torn"), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_text("{}"), "is not an .npz file of cdml embed; write it again$"),
        (lambda path: archive(path, paths=np.array(["a"])), "has no 'embeddings'"),
        (lambda path: archive(path, paths=np.array(["a"]), embeddings=np.ones((1, 2))), "has no 'workdir'"),
        (
            lambda path: archive(path, paths=np.array(["a"]), embeddings=np.ones((2, 2)), **GOOD),
            r"has 1 paths and embeddings of shape \(2, 2\)",
        ),
        (
            lambda path: archive(path, paths=np.array(["a"]), embeddings=np.full((1, 2), np.nan), **GOOD),
            "not finite",
        ),
        (lambda path: archive(path, paths=np.array([{}], object), embeddings=1), "is not an .npz file"),
        (lambda path: path.mkdir(), "cannot be read"),
    ],
)
def test_what_is_no_gallery_is_named(tmp_path, write, words):
    write(tmp_path / "g.npz")
    with pytest.raises(UserError, match=rf"--gallery: .*{words}"):
        read(tmp_path / "g.npz")
