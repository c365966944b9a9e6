"""Tensors from a file in PyTorch's old format, without PyTorch.

Such a file is five pickles (a magic number, a version, facts of the machine, a table of tensors, the keys of
the storages) and then, for each storage, its length and its elements.
"""

from __future__ import annotations

import math

import numpy as np

from cdml_jax.errors import UserError
from cdml_jax.models.weights.pickle_machine import Machine, RefusedError, Tensor

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def read_tensors(data: bytes, origin: str) -> dict[str, np.ndarray]:
    """Arrays by name, float32 or int64, of a file that holds one table of tensors.

    Args:
      data: the whole file.
      origin: what errors call it.

    Raises:
      UserError: the file is damaged or holds anything else; one line that says what and where.
    """
    machine = Machine(data)
    try:
        return _tensors(machine)
    except RefusedError as error:
        raise UserError(
            f"model.weights: {origin} is not a table of tensors that can be read safely "
            f"({error}, near byte {machine.at})"
        ) from error


def _tensors(machine: Machine) -> dict[str, np.ndarray]:
    if not (_is(machine.run(), _MAGIC) and _is(machine.run(), _VERSION)):
        raise RefusedError("it does not begin as PyTorch's old format does")
    facts = machine.run()
    if type(facts) is not dict or facts.get("little_endian") is not True:
        raise RefusedError("its numbers are not little-endian")
    table, keys = machine.run(), machine.run()
    if type(table) is not dict or not all(type(value) is Tensor for value in table.values()):
        raise RefusedError("its object is not a table of tensors")
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise RefusedError("it has no list of storages")
    if len(set(keys)) < len(keys) or set(keys) != machine.storages.keys():
        raise RefusedError("its list of storages is not that of its tensors")
    places = {key: machine.skip_storage(machine.storages[key]) for key in keys}
    if machine.at != len(machine.data):
        raise RefusedError("more follows after its storages")
    # Each element once, or views of one storage could ask for more memory than the file has bytes.
    if sum(math.prod(t.shape) for t in table.values()) > sum(s.length for s in machine.storages.values()):
        raise RefusedError("its tensors have more elements than its storages")
    return {name: _copied(machine.data, tensor, places) for name, tensor in table.items()}


def _is(value: object, number: int) -> bool:
    return type(value) is int and value == number


def _copied(data: bytes, tensor: Tensor, places: dict[str, int]) -> np.ndarray:
    size = tensor.storage.dtype.itemsize
    offset = places[tensor.storage.key] + tensor.offset * size
    strides = tuple(stride * size for stride in tensor.strides)
    # NumPy checks the bounds once more.
    return np.ndarray(tensor.shape, tensor.storage.dtype, data, offset, strides).copy()
