"""Where weights come from, and what is said where they cannot be had."""

import pickle
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from cdml_jax.errors import UserError
from cdml_jax.models.weights.files import read_weights


@pytest.fixture
def hub(monkeypatch):
    """A hub whose answer the test gives."""
    module = types.ModuleType("huggingface_hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def test_a_model_of_the_hub_is_read_from_its_cache(hub, tmp_path):
    asked = []

    def download(model, name):
        asked.append((model, name))
        return str(tmp_path / name)

    hub.hf_hub_download = download
    save_file({"a": np.arange(3.0)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    file = read_weights("hf:timm/resnet50.a1_in1k")
    assert asked == [("timm/resnet50.a1_in1k", "model.safetensors")]
    assert np.array_equal(file.values["a"], np.arange(3.0))
    assert file.metadata == {"format": "pt"}


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_hub_that_cannot_be_reached_is_one_line(hub, error):
    def download(*_):
        raise error("no such model\nand much more")

    hub.hf_hub_download = download
    with pytest.raises(UserError) as caught:
        read_weights("hf:a/b")
    assert str(caught.value) == "model.weights: hf:a/b could not be fetched: no such model"


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("huggingface_hub", "hf:a/b", r"pip install 'cdml_jax\[hub\]'"),
        ("torch", "weights.pth", "needs torch, which is not installed"),
    ],
)
def test_a_package_that_is_not_there_is_named(monkeypatch, tmp_path, package, name, message):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"PK")
    with pytest.raises(UserError, match=message):
        read_weights(name)


def test_tables_of_tensors_are_read_from_pickles(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"a": torch.arange(3).half()}}, tmp_path / "weights.pth")
    values = read_weights(str(tmp_path / "weights.pth")).values
    assert np.array_equal(values["a"], np.arange(3.0, dtype=np.float32))
    assert values["a"].dtype == np.float32


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(UserError, match="cannot be read with weights_only=True"):
        read_weights(str(tmp_path / "weights.pt"))
    assert not (tmp_path / "written").exists()
