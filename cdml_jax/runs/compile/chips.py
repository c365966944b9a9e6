"""Published numbers of TPU chips; each with the page that states it.

Peaks, memory, its bandwidth and the links' are those of Google's pages, looked up in 2026:
https://docs.cloud.google.com/tpu/docs/v4, …/v5e, …/v5p and …/v6e. The clock is what makes the stated peak of
the stated matrix units (each multiplies and adds 128 x 128 numbers a cycle): 197e12 / (4 · 128² · 2) is
1.50 GHz for v5e. For v4 that is the 1,050 MHz of Jouppi et al., "TPU v4" (2023), table 4, which also has its
links: six of 50 GB/s each way. v6e's units have 256 x 256, so the same division gives twice what its memory's
bandwidth allows for (the compiler moves 757 bytes a cycle, and 1,638 GB/s are published); half of it is
assumed here.
"""

from __future__ import annotations

import dataclasses

from cdml_jax.errors import UserError

_PAGE = "https://docs.cloud.google.com/tpu/docs/"


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of TPU chip.

    Attributes:
      name: as `--topology` has it.
      cloud: prefix of Google's accelerator types; its number counts what `counts` says.
      counts: what that number counts for each chip: TensorCores or chips.
      gke: GKE's label of node pools.
      peak: dense bfloat16 operations a second.
      memory: bytes of HBM.
      usable: bytes of it that the compiler gives to a program (libtpu 0.0.42.1, read from its refusals).
      bandwidth: bytes of HBM a second.
      clock: cycles a second.
      link: bytes a second that one link carries in one direction.
      axes: of the torus in which chips are arranged.
      wraps: the ends of an axis are joined where its chips are a multiple of this.
      most: chips of the largest slice.
      page: where its numbers are published.
    """

    name: str
    cloud: str
    counts: int
    gke: tuple[str, ...]
    peak: float
    memory: float
    usable: float
    bandwidth: float
    clock: float
    link: float
    axes: int
    wraps: int
    most: int
    page: str


_V4 = Chip(
    name="v4",
    cloud="v4",
    counts=2,
    gke=("tpu-v4-podslice",),
    peak=275e12,
    memory=32 * 2**30,
    usable=30.75 * 2**30,
    bandwidth=1200e9,
    clock=1.05e9,
    link=50e9,
    axes=3,
    wraps=4,
    most=4096,
    page=f"{_PAGE}v4",
)
_V5E = Chip(
    name="v5e",
    cloud="v5litepod",
    counts=1,
    gke=("tpu-v5-lite-podslice", "tpu-v5-lite-device"),
    peak=197e12,
    memory=16 * 2**30,
    usable=15.75 * 2**30,
    bandwidth=819e9,
    clock=1.5e9,
    link=50e9,  # 400 GB/s of a chip, both ways together, over four ports
    axes=2,
    wraps=16,
    most=256,
    page=f"{_PAGE}v5e",
)
_V5P = Chip(
    name="v5p",
    cloud="v5p",
    counts=2,
    gke=("tpu-v5p-slice",),
    peak=459e12,
    memory=95 * 2**30,
    usable=95.74 * 2**30,
    bandwidth=2765e9,
    clock=1.75e9,
    link=100e9,  # 4,800 Gb/s of a chip over six ports
    axes=3,
    wraps=4,
    most=6144,
    page=f"{_PAGE}v5p",
)
_V6E = Chip(
    name="v6e",
    cloud="v6e",
    counts=1,
    gke=("tpu-v6e-slice",),
    peak=918e12,
    memory=32 * 2**30,
    usable=31.25 * 2**30,
    bandwidth=1638e9,
    clock=1.75e9,
    link=100e9,  # 800 GB/s of a chip, both ways together, over four ports
    axes=2,
    wraps=16,
    most=256,
    page=f"{_PAGE}v6e",
)
CLOCKS_ASSUMED = ("v6e",)
CHIPS = {chip.name: chip for chip in (_V4, _V5E, _V5P, _V6E)}


def named(name: str) -> tuple[Chip, bool]:
    """A chip by its name, GKE's label or the prefix of Google's accelerator types.

    Returns:
      The chip, and whether a bare number behind the name counts what accelerator types count.

    Raises:
      UserError: it is not known.

    >>> named("v5litepod")[0].name, named("tpu-v5p-slice")[0].name
    ('v5e', 'v5p')
    """
    for chip in CHIPS.values():
        if name in (chip.name, chip.cloud, *chip.gke):
            return chip, name == chip.cloud
    raise UserError(f"--topology: no chip {name!r} is known; choose one of {', '.join(CHIPS)}")
