"""Where a result comes from: its settings, the versions and devices that made it, and when."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Settings, versions, devices and date of a result.

    Attributes:
      settings: of the run, nested, as JSON has them.
      versions: of cdml_jax, of the packages that compute, and of Python.
      device: what each device is, such as "cpu" or "NVIDIA H100 80GB HBM3".
      devices: how many the run used.
      date: in UTC, by ISO 8601.
    """

    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    devices: int
    date: str

    @property
    def machine(self) -> str:
        """The devices in words."""
        return f"{self.devices} x {self.device}"

    @property
    def software(self) -> str:
        """The versions in words."""
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def provenance(settings: Mapping[str, Any], *, device: str, devices: int) -> Provenance:
    """Provenance of what this process makes now.

    Args:
      settings: of the run.
      device: kind of each device.
      devices: how many.
    """
    from cdml_jax import __version__

    versions = {"cdml_jax": __version__}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    versions["python"] = platform.python_version()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Provenance(settings, versions, device, devices, now)
