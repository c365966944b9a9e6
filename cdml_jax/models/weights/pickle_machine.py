"""Pickles run by a machine that knows what a table of tensors needs and nothing else: no code is ever run.

Python's unpickler imports and calls whatever a file names. This machine imports nothing, sets no attribute,
and the only two calls that it knows, `OrderedDict()` and `_rebuild_tensor_v2`, are made by its own code.
Every instruction takes a byte, so what it does is bounded by the file's length.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np

_MOST_BYTES = 1 << 17  # of the pickles together; 386 tensors take 62 kB
_MOST_DIMENSIONS = 8


class RefusedError(ValueError):
    """What is wrong with a file."""


class _Name(NamedTuple):
    """What a file may name; it stands for itself and cannot be called."""

    module: str
    name: str


_ORDERED_DICT = _Name("collections", "OrderedDict")
_REBUILD = _Name("torch._utils", "_rebuild_tensor_v2")
_DTYPES: dict[_Name, np.dtype] = {
    _Name("torch", "FloatStorage"): np.dtype("<f4"),
    _Name("torch", "LongStorage"): np.dtype("<i8"),
}
_NAMES = {_ORDERED_DICT, _REBUILD, *_DTYPES}


class Storage(NamedTuple):
    """A file's run of numbers of one kind; `length` counts them."""

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Machine:
    """Runs pickles that follow each other; a value is an int, str, bool, None, tuple, list, dict or ours.

    Attributes:
      at: the byte that comes next.
      storages: by key, as the pickles named them.
    """

    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.storages: dict[str, Storage] = {}
        self._begin()

    def _begin(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> object:
        """The next pickle's value."""
        self._begin()
        while True:
            if self.at >= _MOST_BYTES:
                raise RefusedError("its pickles are too long")
            instruction = self._take(1)
            if instruction == b".":
                value = self._pop()
                if self._stack or self._marks:
                    raise RefusedError("a pickle ends with values left over")
                return value
            if instruction not in _INSTRUCTIONS:
                raise RefusedError(f"the instruction {instruction!r} is not admitted")
            _INSTRUCTIONS[instruction](self)

    def skip_storage(self, storage: Storage) -> int:
        """Where the storage's bytes begin, the next ones; its length stands before them."""
        if self._number("<q") != storage.length:
            raise RefusedError("a storage is not as long as its tensor says")
        begin, size = self.at, storage.length * storage.dtype.itemsize
        if size > len(self.data) - begin:
            raise RefusedError("the file ends inside a storage")
        self.at += size
        return begin

    def _take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise RefusedError("the file ends inside a pickle")
        self.at += size
        return self.data[self.at - size : self.at]

    def _number(self, form: str) -> int:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise RefusedError("a text is not UTF-8") from error

    def _line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 100)
        if end < 0:
            raise RefusedError("a name does not end")
        return self._text(self._take(end + 1 - self.at)[:-1])

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise RefusedError("a value is missing")
        return self._stack.pop()

    def _pop_many(self, number: int) -> tuple:
        return tuple(self._pop() for _ in range(number))[::-1]

    def _pop_to_mark(self) -> tuple:
        if not self._marks:
            raise RefusedError("a mark is missing")
        values = tuple(self._stack[self._marks[-1] :])
        del self._stack[self._marks.pop() :]
        return values

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _protocol(self) -> None:
        if self._number("<B") != 2:
            raise RefusedError("a pickle is not of protocol 2")

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _global(self) -> None:
        name = _Name(self._line(), self._line())
        if name not in _NAMES:
            raise RefusedError(f"the name {'.'.join(name)!r} is not admitted")
        self._push(name)

    def _put(self, form: str) -> None:
        value = self._pop()
        self._memo[self._number(form)] = value
        self._push(value)

    def _get(self, form: str) -> None:
        number = self._number(form)
        if number not in self._memo:
            raise RefusedError("a value is used before it is made")
        self._push(self._memo[number])

    def _append(self, values: tuple) -> None:
        target = self._pop()
        if type(target) is not list:
            raise RefusedError("something other than a list is appended to")
        target.extend(values)
        self._push(target)

    def _set(self, items: tuple) -> None:
        target = self._pop()
        if type(target) is not dict or len(items) % 2:
            raise RefusedError("something other than a table takes items")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str:
                raise RefusedError("a key is not a text")
            if key in target:
                raise RefusedError("a key stands in a table twice")
            target[key] = value
        self._push(target)

    def _storage(self) -> None:
        """A persistent id: ("storage", type, key, "cpu", number of elements, None)."""
        value = self._pop()
        kinds = (str, _Name, str, str, int, type(None))
        if type(value) is not tuple or len(value) != len(kinds) or tuple(map(type, value)) != kinds:
            raise RefusedError("a storage is not described as one")
        word, kind, key, device, length, _ = value
        if word != "storage" or kind not in _DTYPES or device != "cpu" or length < 0:
            raise RefusedError("a storage is not described as one")
        storage = Storage(key, _DTYPES[kind], length)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedError("a storage is described in two ways")
        self._push(storage)

    def _reduce(self) -> None:
        """A call: an empty table, or a tensor (storage, offset, size, strides, gradient, hooks)."""
        function, arguments = self._pop_many(2)
        if type(function) is not _Name or type(arguments) is not tuple:
            raise RefusedError("something is called that is not a function")
        if function == _ORDERED_DICT and not arguments:
            self._push({})
        elif function == _REBUILD and len(arguments) == 6:
            self._push(_tensor(*arguments[:4]))
        else:
            raise RefusedError(f"a call of {function.name} is not admitted")

    def _build(self) -> None:
        """PyTorch hangs the modules' versions on the table as the last act; they are dropped."""
        table, state = self._pop_many(2)
        last = not self._stack and not self._marks and self.data[self.at : self.at + 1] == b"."
        if not last or type(table) is not dict or type(state) is not dict or state.keys() != {"_metadata"}:
            raise RefusedError("attributes of an object are not admitted")
        self._push(table)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A tensor all of whose elements lie in its storage, or an error."""
    described = type(storage) is Storage and type(shape) is type(strides) is tuple
    if not described or not len(shape) == len(strides) <= _MOST_DIMENSIONS:
        raise RefusedError("a tensor is not described as one")
    if not all(type(n) is int and 0 <= n <= storage.length for n in (offset, *shape, *strides)):
        raise RefusedError("an offset, a size or a stride of a tensor is beyond its storage")
    elements = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
    if not 0 < elements <= storage.length or last >= storage.length:
        raise RefusedError("a tensor has no elements, or more than its storage")
    return Tensor(storage, offset, shape, strides)


_INSTRUCTIONS = {
    b"\x80": Machine._protocol,
    b"(": Machine._mark,
    b"c": Machine._global,
    b"R": Machine._reduce,
    b"Q": Machine._storage,
    b"b": Machine._build,
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"K": lambda m: m._push(m._number("<B")),
    b"M": lambda m: m._push(m._number("<H")),
    b"J": lambda m: m._push(m._number("<i")),
    b"\x8a": lambda m: m._push(int.from_bytes(m._take(m._number("<B")), "little", signed=True)),
    b"X": lambda m: m._push(m._text(m._take(m._number("<I")))),
    b"}": lambda m: m._push({}),
    b"]": lambda m: m._push([]),
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(m._pop_to_mark()),
    b"\x85": lambda m: m._push(m._pop_many(1)),
    b"\x86": lambda m: m._push(m._pop_many(2)),
    b"\x87": lambda m: m._push(m._pop_many(3)),
    b"e": lambda m: m._append(m._pop_to_mark()),
    b"s": lambda m: m._set(m._pop_many(2)),
    b"u": lambda m: m._set(m._pop_to_mark()),
    b"q": lambda m: m._put("<B"),
    b"r": lambda m: m._put("<I"),
    b"h": lambda m: m._get("<B"),
    b"j": lambda m: m._get("<I"),
}
