"""What is a place on this machine gets its whole path; what is only a name stays as it is."""

import pytest

from cdml_jax.configuration import places
from cdml_jax.configuration.settings import changed, defaults, to_plain


def moved(key, value):
    plain = places.from_the_root(to_plain(changed(defaults(), {key: value})))
    for name in key.split("."):
        plain = plain[name]
    return plain


@pytest.mark.parametrize("name", ["", "imagenet", "demo_upstream", "hf:timm/resnet50.tv_in1k"])
def test_names_of_weights_are_no_files(tmp_path, monkeypatch, name):
    """Not even where a folder is called so."""
    (tmp_path / "imagenet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not places.is_file(name)
    assert moved("model.weights", name) == name


@pytest.mark.parametrize(
    ("key", "kind", "place"),
    [
        ("model.weights", "", "net.safetensors"),
        ("source", "folder:", "birds"),
        ("confusion.source", "file:", "costs.csv"),
        ("data.data_dir", "", "data"),
    ],
)
def test_places_begin_at_the_root(tmp_path, monkeypatch, key, kind, place):
    monkeypatch.chdir(tmp_path)
    assert moved(key, kind + place) == f"{kind}{tmp_path / place}"
