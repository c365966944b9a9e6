"""A slice of TPU chips by its name, and the devices that libtpu's compiler compiles for without any chip."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import jax

from cdml_jax.errors import UserError
from cdml_jax.runs.compile.chips import Chip, named

LIBTPU = "libtpu is not installed: pip install 'cdml_jax[train,tpu]' brings the compiler; no TPU is needed"
_USUAL_HOST = 4  # chips that libtpu gives a process
# What libtpu would ask of the machine: whether it is a TPU VM, and whether another process holds its chips.
_NOT_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips of one kind in a mesh or torus, once or several times.

    Attributes:
      chip: their kind.
      shape: chips along each axis.
      number: of such slices, joined by the data centre's network.
    """

    chip: Chip
    shape: tuple[int, ...]
    number: int = 1

    @property
    def name(self) -> str:
        """As it is written: v5e:4x4, or 2*v5e:4x4."""
        several = f"{self.number}*" if self.number > 1 else ""
        return f"{several}{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """All of them."""
        return math.prod(self.shape) * self.number

    @property
    def hosts(self) -> int:
        """Processes that libtpu arranges them in: four chips each, or one."""
        return max(self.chips // _USUAL_HOST, self.number)

    @property
    def links(self) -> int:
        """Links of a chip over which a ring can send: two along an axis whose ends are joined, else one."""
        return sum((2 if self._joined(n) else 1) for n in self.shape if n > 1)

    @property
    def hops(self) -> int:
        """Chips between the two that are farthest from each other."""
        return sum(n // 2 if self._joined(n) else n - 1 for n in self.shape)

    def block(self, neighbours: int) -> Slice:
        """So many neighbouring devices as a slice of their own; the whole slice where they are as many or 0.

        In the order of a run, hosts of 2 x 2 chips follow one another along the first axis, then the next.

        >>> parse("v5e:16x16").block(8).shape, parse("v5e:16x16").block(32).shape
        ((4, 2), (16, 2))
        """
        if not 0 < neighbours < math.prod(self.shape):
            return self
        host = [min(2, n) if axis < 2 else 1 for axis, n in enumerate(self.shape)]
        block = [1] * len(host)
        for limits in (host, self.shape):
            for axis, limit in enumerate(limits):
                block[axis] = min(limit, block[axis] * -(-neighbours // math.prod(block)))
        return dataclasses.replace(self, shape=tuple(block), number=1)

    def _joined(self, size: int) -> bool:
        if self.chip.axes == 3:  # by optical switches, of whole cubes alone
            return all(n % self.chip.wraps == 0 for n in self.shape)
        return size % self.chip.wraps == 0

    def devices(self) -> Sequence[Any]:
        """Devices to compile for; nothing can be run on them.

        Raises:
          UserError: libtpu is not installed or does not take the shape.
        """
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(LIBTPU)
        os.environ.update({name: os.environ.get(name, value) for name, value in _NOT_HERE.items()})
        from jax.experimental import topologies

        options: dict[str, Any] = {"chip_config_name": "megacore"} if self.chip.name == "v4" else {}
        if self.number > 1:
            options["num_slices"] = self.number
        if math.prod(self.shape) < _USUAL_HOST:
            options["chips_per_host_bounds"] = (*self.shape, 1, 1)[:3]
        shape = "x".join(map(str, self.shape))
        try:
            found = topologies.get_topology_desc(f"{self.chip.name}:{shape}", "tpu", **options).devices
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--topology: {self.name}: libtpu does not take it ({reason}); the shapes there are: "
                f"{self.chip.page}"
            ) from error
        return sorted(found, key=lambda device: (device.process_index, device.id))  # as a run does


def compiler_version() -> str:
    """Of libtpu; "" where it is not installed."""
    try:
        return importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        return ""


def parse(text: str) -> Slice:
    """A slice by its name.

    Args:
      text: chips along each axis, v5e:4x4, with GKE's label in place of the chip's name if that is at hand;
        or an accelerator type, v5litepod-16. `2*v5e:4x4` are two slices.

    Raises:
      UserError: no such chip, a shape that it does not come in, or more chips than a slice has.

    >>> parse("v5litepod-16").name, parse("v5p-8").shape, parse("2*v5e:4x4").chips
    ('v5e:4x4', (2, 2, 1), 32)
    """
    match = re.fullmatch(r"(?:(\d+)\*)?([a-z][\w-]*?)(?::(\d+(?:x\d+)*)|-(\d+))", text.strip())
    if not match:
        raise UserError(f"--topology: {text!r} is not a slice; write v5e:4x4, v4:2x2x1 or v5litepod-16")
    number, (chip, counted) = int(match[1] or 1), named(match[2])
    if match[4]:
        cores = int(match[4])
        chips = cores // (chip.counts if counted else 1)
        if not chips or cores % (chip.counts if counted else 1) or chips & (chips - 1):
            raise UserError(
                f"--topology: {text!r}: {cores} is not a power of two of what {chip.name} counts; "
                f"write its shape, such as {chip.name}:{'2x2' if chip.axes == 2 else '2x2x1'}"
            )
        shape = _usual_shape(chips, chip.axes)
    else:
        shape = tuple(int(n) for n in match[3].split("x"))
    if len(shape) != chip.axes or 0 in shape or not number:
        example = "4x4" if chip.axes == 2 else "2x2x4"
        raise UserError(
            f"--topology: {text!r}: {chip.name} has {chip.axes} axes, such as {chip.name}:{example}"
        )
    if math.prod(shape) > chip.most:
        raise UserError(f"--topology: {text!r}: the largest slice of {chip.name} has {chip.most:,} chips")
    return Slice(chip, shape, number)


def _usual_shape(chips: int, axes: int) -> tuple[int, ...]:
    """The shape in which so many chips come: as near to a square or a cube as it can be.

    >>> _usual_shape(8, 2), _usual_shape(4, 3), _usual_shape(16, 3)
    ((2, 4), (2, 2, 1), (2, 2, 4))
    """
    shape, axis = [1] * axes, 0
    while math.prod(shape) < chips:
        shape[axis % axes] *= 2
        axis += 1
    return tuple(sorted(shape)) if math.prod(shape) != 4 else tuple(sorted(shape, reverse=True))
