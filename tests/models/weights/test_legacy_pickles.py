"""Tables of tensors in PyTorch's old format: what is read, and what never runs or fills the memory."""

import copyreg
import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest

from cdml_jax.errors import UserError
from cdml_jax.models.weights.legacy_pickles import read_tensors

DICT, REBUILD = b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n"
KINDS = {np.dtype("<f4"): b"ctorch\nFloatStorage\n", np.dtype("<i8"): b"ctorch\nLongStorage\n"}
EMPTY = DICT + b")R"
METADATA = b"}" + b"X" + struct.pack("<I", 9) + b"_metadata" + EMPTY + b"sb"


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def row(*parts):
    return b"(" + b"".join(parts) + b"t"


def storage(key, kind, length, word="storage", device="cpu", last=b"N"):
    return row(text(word), kind, text(key), text(device), whole(length), last) + b"Q"


def tensor(stored, offset, shape, strides):
    sizes = (row(*map(whole, numbers)) for numbers in (shape, strides))
    return REBUILD + row(stored, whole(offset), *sizes, b"\x89", EMPTY) + b"R"


HEAD = (
    b"\x80\x02" + whole(0x1950A86A20F9469CFC6C) + b".",
    b"\x80\x02" + whole(1001) + b".",
    b"\x80\x02}(" + text("protocol_version") + whole(1001) + text("little_endian") + b"\x88u.",
)
A = np.arange(12, dtype="<f4")
B = np.arange(3, dtype="<i8") + 7


def file(table=None, *, keys=("a", "b"), storages=(A, B), head=HEAD, end=b""):
    """A file of two tensors, `weight` (2, 3) and `count` (), whose parts can be others."""
    if table is None:
        table = EMPTY + b"("
        table += text("weight") + tensor(storage("a", KINDS[A.dtype], 12), 1, (2, 3), (1, 4))
        table += text("count") + tensor(storage("b", KINDS[B.dtype], 3), 2, (), ()) + b"u" + METADATA
    listed = b"\x80\x02](" + b"".join(map(text, keys)) + b"e."
    data = b"".join(struct.pack("<q", s.size) + s.tobytes() for s in storages)
    return b"".join((*head, b"\x80\x02" + table + b".", listed, data, end))


def one(stored=None, offset=0, shape=(12,), strides=(1,), names=("weight",)):
    """The table of a file with one storage, A."""
    stored = stored or storage("a", KINDS[A.dtype], 12)
    items = b"".join(text(name) + tensor(stored, offset, shape, strides) for name in names)
    return EMPTY + b"(" + items + b"u"


def of(table, **others):
    return file(table, **{"keys": ("a",), "storages": (A,)} | others)


def test_tensors_are_read_by_size_stride_and_offset():
    found = read_tensors(file(), "w.pth")
    assert found.keys() == {"weight", "count"}
    assert np.array_equal(found["weight"], [[1, 5, 9], [2, 6, 10]])
    assert found["count"] == 9
    assert {name: value.dtype for name, value in found.items()} == {"weight": A.dtype, "count": B.dtype}


def test_what_pytorch_writes_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    torch.save(layer.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    found = read_tensors((tmp_path / "w.pth").read_bytes(), "w.pth")
    assert found.keys() == layer.state_dict().keys()
    assert all(np.array_equal(found[name], value) for name, value in layer.state_dict().items())


class Reduced:
    """Pickled as a call of the file's choice."""

    def __init__(self, *call):
        self.call = call

    def __reduce_ex__(self, protocol):
        return self.call


def call(*arguments, protocol=2):
    return pickle.dumps(Reduced(*arguments), protocol)[2 if protocol >= 2 else 0 : -1]


def nested(levels):
    """A tuple that holds the one before twice, and so on: 2^levels leaves in a few bytes."""
    return b")q\x00" + b"h\x00\x86q\x00" * levels


def described(size, *, offset=b"K\x00", strides=b"K\x01\x85", stored=None):
    """A tensor of A whose size is any bytes."""
    stored = stored or storage("a", KINDS[A.dtype], 12)
    return EMPTY + text("a") + REBUILD + row(stored, offset, size, strides, b"\x89", EMPTY) + b"Rs"


WRITE = (os.system, ("touch RAN",))
MALICIOUS = {
    # Calls and names.
    "os.system": of(call(*WRITE)),
    "a builtin": of(call(eval, ("open('RAN', 'w')",))),
    "protocol 0": of(call(*WRITE, protocol=0)),
    "protocol 4": of(call(*WRITE, protocol=4)),
    "a call inside the table": of(EMPTY + text("a") + call(*WRITE) + b"s"),
    "a call in the first pickle": of(one(), head=(b"\x80\x02" + call(*WRITE) + b".", *HEAD[1:])),
    "a call in the third pickle": of(one(), head=(*HEAD[:2], b"\x80\x02" + call(*WRITE) + b".")),
    "a call after the storages": of(one(), end=b"\x80\x02" + call(*WRITE) + b"."),
    "another name of torch": of(b"ctorch\nload\n" + row(text("RAN")) + b"R"),
    "another name of torch._utils": of(b"ctorch._utils\n_rebuild_parameter\n)R"),
    "another name of collections": of(b"ccollections\ndefaultdict\n)R"),
    "a name by an attribute": of(b"ccollections\nOrderedDict.__init__\n)R"),
    "a name by an attribute of a module": of(b"ctorch._utils\nos.system\n" + row(text("touch RAN")) + b"R"),
    "a module's name inside": of(b"ctorch._utils.os\nsystem\n)R"),
    "a name from the stack": of(text("os") + text("system") + b"\x93" + row(text("touch RAN")) + b"R"),
    "a name without an end": of(b"c" + b"a" * 200),
    "getattr": of(b"c__builtin__\ngetattr\n" + row(DICT, text("fromkeys")) + b"R"),
    "OrderedDict with arguments": of(DICT + row(b"]") + b"R"),
    "a storage that is called": of(KINDS[A.dtype] + row(whole(1 << 40)) + b"R"),
    "a text that is called": of(text("os.system") + b")R"),
    "a table that is called": of(EMPTY + b")R"),
    "a call with a list of arguments": of(DICT + b"]R"),
    "NEWOBJ": of(DICT + b")\x81"),
    "NEWOBJ_EX": of(DICT + b")}\x92"),
    "INST": of(b"(ios\nsystem\n"),
    "OBJ": of(b"(" + DICT + b"o"),
    "EXT1": of(b"\x82\x01"),
    "EXT2": of(b"\x83\x01\x00"),
    "EXT4": of(b"\x84\x01\x00\x00\x00"),
    "a registered extension": of(call(copyreg._reconstructor, (dict, object, None))),
    # Attributes.
    "BUILD of a name": of(DICT + text("x") + text("y") + b"\x86b"),
    "BUILD of a tensor": of(one()[:-1] + b"}bu"),
    "BUILD before the end": of(one() + METADATA + text("more") + b"Ns"),
    "BUILD of other attributes": of(one() + b"}" + text("__class__") + text("RAN") + b"sb"),
    "BUILD with slots": of(one() + b"N}" + text("_metadata") + b"Ns\x86b"),
    "BUILD of two": of(one() + METADATA + METADATA),
    "persistent id as text": of(b"Pos.system\n"),
    "a buffer": of(b"\x97"),
    "a frame": of(b"\x95" + struct.pack("<Q", 1 << 60)),
    # Bombs.
    "nested tuples as a key": of(b"}" + nested(60) + b"Ns"),
    "nested tuples as a tensor": of(EMPTY + text("a") + nested(60) + b"s"),
    "nested tuples as a size": of(described(nested(60))),
    "nested tuples as an offset": of(described(b"K\x01\x85", offset=nested(60))),
    "nested tuples as a storage": of(nested(60) + b"Q"),
    "nested tuples as a function": of(nested(60) + b")R"),
    "nested tuples as facts": of(one(), head=(*HEAD[:2], b"\x80\x02" + nested(60) + b".")),
    "a list in itself": of(b"]q\x00h\x00a"),
    "a table in itself": of(b"}q\x00" + text("a") + b"h\x00s"),
    "a long size": of(described(row(b"K\x01" * 50_000), strides=row(b"K\x00" * 10_000))),
    "a long storage": of(row(b"N" * 100_000) + b"Q"),
    "more lists than a table needs": of(b"]" * 200_000),
    "more marks than a table needs": of(b"(" * 200_000),
    "a long text": file(b"X" + struct.pack("<I", 0xFFFFFFFF) + b"a"),
    "a long number": of(b"\x8b" + struct.pack("<i", 1 << 30)),
    "digits": of(b"L" + b"9" * 100_000 + b"L\n"),
    "bytes": of(b"B" + struct.pack("<I", 1 << 31)),
    "a far place of the memo": of(b"Nr\xff\xff\xff\xff0"),
    # Tensors.
    "a size beyond the storage": of(one(shape=(13,))),
    "an offset beyond the storage": of(one(offset=1)),
    "a stride beyond the storage": of(one(shape=(4,), strides=(4,))),
    "a negative offset": of(one(offset=-1, shape=(2,))),
    "a negative size": of(one(shape=(-2,))),
    "a negative stride": of(one(offset=11, strides=(-1,))),
    "negative sizes": of(one(shape=(-3, -4), strides=(1, 1))),
    "a stride of zero": of(one(shape=(1 << 40,), strides=(0,))),
    "strides of zero": of(one(shape=(12, 12), strides=(0, 0))),
    "a product that overflows": of(one(shape=(1 << 32, 1 << 32), strides=(0, 0))),
    "a stride that overflows": of(one(shape=(1,), strides=(1 << 70,))),
    "an offset that overflows": of(one(offset=1 << 70, shape=(1,))),
    "an empty tensor of a large size": of(one(shape=(0, 1 << 60), strides=(1, 1))),
    "an empty tensor": of(one(shape=(0,))),
    "more sizes than strides": of(one(shape=(2, 2), strides=(1,))),
    "nine dimensions": of(one(shape=(1,) * 9, strides=(1,) * 9)),
    "a size that is true": of(described(b"\x88\x85")),
    "a size that is a text": of(described(text("1") + b"\x85")),
    "a size that is a list": of(described(b"](K\x01e")),
    "a tensor without a storage": of(described(b"K\x01\x85", stored=b"N")),
    "a tensor of a tensor": of(one(tensor(storage("a", KINDS[A.dtype], 12), 0, (12,), (1,)))),
    "too few arguments": of(REBUILD + row(storage("a", KINDS[A.dtype], 12), b"K\x00") + b"R"),
    "more elements than the storage in all": of(one(names=[f"w{k}" for k in range(2)])),
    # Storages.
    "a length beyond the file and like its own": of(
        one(storage("a", KINDS[A.dtype], 1 << 40), shape=(1,)),
        storages=(),
        end=struct.pack("<q", 1 << 40) + bytes(99),
    ),
    "a length unlike the file's": of(one(storage("a", KINDS[A.dtype], 11), shape=(11,))),
    "a length beyond the file": of(one(storage("a", KINDS[A.dtype], 1 << 40), shape=(1,))),
    "a negative length": of(one(storage("a", KINDS[A.dtype], -12), shape=(1,))),
    "a storage in two ways": file(
        EMPTY + b"(" + text("v") + tensor(storage("a", KINDS[A.dtype], 12), 0, (1,), (1,))
        + text("w") + tensor(storage("a", KINDS[B.dtype], 6), 0, (1,), (1,)) + b"u"
    ),
    "a half-precision storage": of(one(storage("a", b"ctorch\nHalfStorage\n", 12))),
    "a storage of another name": of(one(storage("a", DICT, 12))),
    "a storage on a GPU": of(one(storage("a", KINDS[A.dtype], 12, device="cuda:0"))),
    "a storage's view": of(one(storage("a", KINDS[A.dtype], 12, last=text("view")))),
    "another persistent thing": of(one(storage("a", KINDS[A.dtype], 12, word="module"))),
    "a key that is not listed": of(one(), keys=("b",)),
    "a key more": of(one(), keys=("a", "b")),
    "a key twice": of(one(), keys=("a", "a"), storages=(A, A)),
    "no key": of(one(), keys=(), storages=()),
    "a storage more": of(one(), storages=(A, A)),
    "half a storage": file()[:-5],
    # Shape of the file.
    "nothing": b"",
    "the zip format": b"PK\x03\x04" + bytes(100),
    "the head alone": b"".join(HEAD),
    "another magic": of(one(), head=(b"\x80\x02" + whole(3) + b".", *HEAD[1:])),
    "another version": of(one(), head=(HEAD[0], b"\x80\x02" + whole(1000) + b".", HEAD[2])),
    "big-endian": of(one(), head=(*HEAD[:2], b"\x80\x02}" + text("little_endian") + b"\x89s.")),
    "facts that are none": of(one(), head=(*HEAD[:2], b"\x80\x02N.")),
    "a table that is a list": of(b"]"),
    "a table of numbers": of(EMPTY + text("a") + b"K\x01s"),
    "a key that is a number": of(EMPTY + b"K\x01" + one()[len(EMPTY) + 1 + len(text("weight")) : -1] + b"s"),
    "a name twice": of(one(names=("w", "w"), shape=(2,))),
    "a key without a value": of(EMPTY + b"(" + text("a") + b"u"),
    "items of a list": of(b"](" + text("a") + b"Nu"),
    "appended to a table": of(EMPTY + b"(Ne"),
    "a mark that is missing": of(b"t"),
    "a value that is missing": of(b"\x85"),
    "a value from below a mark": of(b"N(\x85"),
    "a place of the memo that is empty": of(b"h\x07"),
    "values left over": of(b"N" + one()),
    "a mark left over": of(one() + b"("),
    "text that is not UTF-8": of(b"X\x02\x00\x00\x00\xff\xfe"),
    "a surrogate": of(b"X\x03\x00\x00\x00\xed\xa0\x80"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_file_that_holds_anything_else_is_refused_in_one_line(
    name, tmp_path, monkeypatch, unchecked_shapes
):
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(UserError, match=r"^model.weights: w.pth is not a table of tensors .*\)$") as caught:
        read_tensors(MALICIOUS[name], "w.pth")
    taken, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert taken < 5
    assert peak < 50 << 20
    assert not list(tmp_path.iterdir())


def test_every_file_cut_short_is_refused():
    data = file()
    for length in range(len(data)):
        with pytest.raises(UserError):
            read_tensors(data[:length], "w.pth")


def test_a_damaged_file_is_refused_or_read_and_nothing_else():
    rng = np.random.default_rng(0)
    data, refused = np.frombuffer(file(), np.uint8), 0
    for _ in range(1500):
        damaged = data.copy()
        places = rng.integers(0, len(data), rng.integers(1, 4))
        damaged[places] = rng.integers(0, 256, len(places))
        try:
            found = read_tensors(damaged.tobytes(), "w.pth")
        except UserError:
            refused += 1
        else:
            assert sum(value.size for value in found.values()) <= A.size + B.size
    assert 500 < refused < 1500
