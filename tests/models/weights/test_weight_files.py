"""Where weights come from, and what is said where they cannot be had."""

import json
import pickle
import struct
import sys
import types

import numpy as np
import pytest
from messages import like, says
from safetensors.numpy import save_file

from cdml_jax.errors import UserError
from cdml_jax.models.weights.files import read_weights, style_of


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
    assert says("model.weights: hf:a/b could not be fetched: no such model", str(caught.value))


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("huggingface_hub", "hf:a/b", r"pip install 'cdml_jax\[hub\]'"),
        (
            "torch",
            "weights.pth",
            "weights.pth is a pickle of PyTorch: it needs torch, which is not installed",
        ),
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
    with pytest.raises(
        UserError, match=r"weights.pt holds more than tensors \(io.open\), which would run code"
    ):
        read_weights(str(tmp_path / "weights.pt"))
    assert not (tmp_path / "written").exists()


class Tensor:
    """As much of a tensor of PyTorch as is asked for."""

    def __init__(self, array):
        self.array = np.asarray(array)
        self.ndim = self.array.ndim

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def element_size(self):
        return self.array.itemsize

    def detach(self):
        return Tensor(self.array)

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        if self.array.dtype == object:
            raise TypeError("sparse")
        return self.array


@pytest.fixture
def torch(monkeypatch):
    """A stand-in for PyTorch, whose `load` gives or raises what the test chooses, whatever the file is."""
    module = types.ModuleType("torch")
    module.Tensor = Tensor

    def load(path, *, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)
        if isinstance(module.content, Exception):
            raise module.content
        return module.content

    module.load = load
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


TABLE = {"a.weight": Tensor(np.ones((3, 2), np.float16)), "a.tracked": Tensor(np.array(7))}
OTHER = {"b.weight": Tensor(np.zeros((3, 2), np.float32))}


@pytest.mark.parametrize("name", ["a.pth", "a.pth.tar", "a.bin", "a.ckpt", "a", "a.safetensors"])
@pytest.mark.parametrize("magic", [b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"])
def test_a_file_is_known_by_its_content_and_not_by_its_name(torch, tmp_path, name, magic):
    torch.content = TABLE
    (tmp_path / name).write_bytes(magic)
    file = read_weights(str(tmp_path / name))
    assert file.values["a.weight"].dtype == np.float32
    assert file.values["a.tracked"].dtype.kind == "i"
    save_file({"b": np.arange(3.0)}, tmp_path / name)
    assert list(read_weights(str(tmp_path / name)).values) == ["b"]


@pytest.mark.parametrize("number", [0x0280, 0x0480, 0x4B50, 0x17B, 0x13C])
def test_a_header_of_any_length_is_one_of_safetensors(tmp_path, number):
    """Its length stands first, and may look like the beginning of another kind of file."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(number).encode()
    (tmp_path / "a.pth").write_bytes(struct.pack("<Q", number) + header + bytes(4))
    assert read_weights(str(tmp_path / "a.pth")).values == {"a": 0}


@pytest.mark.parametrize(
    ("content", "name", "found"),
    [
        (TABLE, "", ""),
        ({"epoch": 3, "state_dict": TABLE, "optimizer": {"state": {}, "param_groups": []}}, "", "state_dict"),
        ({"model_state_dict": TABLE}, "", "model_state_dict"),
        ({"net": TABLE, "rng": {"cpu": Tensor(np.zeros(9, np.uint8))}}, "", "net"),
        ({"state_dict_ema": TABLE, "best": 0.5}, "", "state_dict_ema"),
        ({"model": {"state_dict": TABLE}}, "", "model.state_dict"),
        ({"model": TABLE, "model_ema": OTHER}, "#model", "model"),
        ({"model_ema": {"module": TABLE}, "model": OTHER}, "#model_ema.module", "model_ema.module"),
    ],
)
def test_the_one_table_of_a_file_is_taken_or_the_named_one(torch, tmp_path, content, name, found):
    torch.content = content
    (tmp_path / "a.ckpt").write_bytes(b"PK")
    file = read_weights(f"{tmp_path / 'a.ckpt'}{name}")
    assert list(file.values) == list(TABLE)
    assert file.table == found


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            {"state_dict_ema": TABLE, "model": OTHER},
            "",
            "holds model and state_dict_ema: name one, as in model.weights=a.ckpt#model",
        ),
        ({"a": TABLE, "b": OTHER, "c\x1b[1m": TABLE}, "", r"holds a, b and c\x1b[1m: name one, as in …"),
        ({"model": TABLE}, "#net", "has no table 'net' of tensors; it has model"),
        (TABLE, "#net", "has no table 'net' of tensors"),
        ({"epoch": 3}, "", "holds no table of tensors; save model.state_dict(), where it was made, as …"),
        ({}, "", "holds no table of tensors; save …"),
        ([TABLE], "", "holds no table of tensors; save …"),
        ({3: TABLE}, "", "holds no table of tensors; save …"),
        (
            {"w": Tensor(np.zeros((2, 2))), "x": Tensor(np.array([None]))},
            "",
            "x is not a plain array of numbers (TypeError)",
        ),
        (
            ValueError(
                "Weights only load failed. This file can still be loaded, to do so you have two options, "
                "\x1b[1mdo those steps only if you trust\x1b[0m\nUnsupported global: GLOBAL nets.Mine was not"
            ),
            "",
            "holds more than tensors (nets.Mine), which would run code and is not done; save …",
        ),
        (
            RuntimeError("Cannot use ``weights_only=True`` with TorchScript"),
            "",
            "is a program of TorchScript; save …",
        ),
        (
            RecursionError(),
            "",
            "is not a readable pickle of PyTorch: it is damaged or cut short, or of another program",
        ),
        (MemoryError(), "", "is not a readable pickle of PyTorch: …"),
        (EOFError("Ran out of input"), "", "is not a readable pickle of PyTorch: …"),
    ],
)
def test_what_holds_no_table_is_refused_in_a_sentence_of_ours(torch, tmp_path, content, name, message):
    torch.content = content
    (tmp_path / "a.ckpt").write_bytes(b"\x80\x02}")
    with pytest.raises(UserError) as caught:
        read_weights(f"{tmp_path / 'a.ckpt'}{name}")
    said = str(caught.value)
    start, more, _ = message.partition("…")
    assert said.removeprefix(f"model.weights: {tmp_path / 'a.ckpt'}").lstrip(" :").startswith(start)
    assert more or said.endswith(start)
    assert "\x1b" not in said
    assert "trust" not in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08", "is compressed by gzip; unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes them; save the arrays as .safetensors"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "is a pointer of Git LFS, not the weights; run git lfs pull",
        ),
        (b"\n<!doctype html>", "is a web page, not the weights; fetch the file itself"),
        (b'{"weight_map": {}}', "is JSON, such as the index of weights in several files; join them into …"),
        (b"\x93NUMPY\x01\x00", "is an array of NumPy without a name; save the arrays as .safetensors"),
        (b"", "is empty; copy or fetch it once more"),
        (b"some text of more than eight letters", "is not a readable safetensors file (…"),
    ],
)
def test_files_that_people_take_for_weights_are_known(tmp_path, content, message):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_weights(str(tmp_path / "a.pth"))
    assert str(caught.value).startswith(f"model.weights: {tmp_path / 'a.pth'} {message.partition('…')[0]}")


def test_an_archive_of_numpy_is_no_pickle_of_pytorch(tmp_path):
    np.savez(tmp_path / "a.npz", kernel=np.ones(3))
    with pytest.raises(UserError, match=like("a.npz is an archive of NumPy (.npz); save the arrays as")):
        read_weights(str(tmp_path / "a.npz"))


def test_folders_absent_files_and_tables_where_there_are_none_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file({"a": np.arange(3.0)}, tmp_path / "a#b.safetensors")
    assert list(read_weights("~/a#b.safetensors").values) == ["a"]  # a name may have the sign in it
    for name, message in [
        (str(tmp_path), "is a folder; name the file in it that holds the weights"),
        ("~/none\x1b.pth", r"no file .*none\\x1b.pth; shipped weights are demo_upstream"),
        ("~/a#b.safetensors#c", "has no tables; leave out #c"),
    ]:
        with pytest.raises(UserError, match=message):
            read_weights(name)


def test_brain_floats_are_read_and_smaller_ones_named(tmp_path):
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    for kind, size in [("BF16", 4), ("F8_E4M3", 2)]:
        header = json.dumps({"a\n": entry | {"dtype": kind, "data_offsets": [0, size]}}).encode()
        content = struct.pack("<Q", len(header)) + header + b"\x80\x3f\x00\x40"[:size]
        (tmp_path / f"{kind}.safetensors").write_bytes(content)
    assert read_weights(str(tmp_path / "BF16.safetensors")).values["a\n"].astype(np.float32).tolist() == [
        1,
        2,
    ]
    with pytest.raises(
        UserError, match=like("8 bits or fewer (F8_E4M3), in 1 arrays such as a\n; save them")
    ):
        read_weights(str(tmp_path / "F8_E4M3.safetensors"))


def test_the_style_that_a_file_names_is_known_without_its_arrays(tmp_path):
    for metadata, style in [
        ({"style": "tensorflow"}, "tensorflow"),
        ({"padding": "SAME (T)"}, "tensorflow"),
        ({"a": "b"}, ""),
    ]:
        save_file({"a": np.arange(3.0)}, tmp_path / "a.safetensors", metadata=metadata)
        assert style_of(str(tmp_path / "a.safetensors")) == style
    (tmp_path / "a.pth").write_bytes(b"PK")
    assert style_of(str(tmp_path / "a.pth")) == ""


def test_no_wrong_bit_ends_in_a_traceback(tmp_path):
    """Every third bit of the length, the header and the arrays: all eight of a byte in turn."""
    save_file(
        {"a.weight": np.ones((2, 3), np.float16), "b": np.arange(3.0)},
        tmp_path / "w",
        metadata={"style": "x"},
    )
    content = (tmp_path / "w").read_bytes()
    messages = []
    for place in range(0, 8 * len(content), 3):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / "w").write_bytes(damaged)
        try:
            read_weights(str(tmp_path / "w"))
        except UserError as error:
            messages.append(str(error))
        style_of(str(tmp_path / "w"))
    assert len(messages) > len(content) / 2
    assert not any("\n" in message for message in messages)
