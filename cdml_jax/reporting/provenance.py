"""Where a result comes from: its settings, the versions and devices that made it, and when."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
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


def differences(origins: Iterable[Provenance | None]) -> str:
    """In which devices and versions some results differ, in words; "" where all are alike or none says.

    >>> one = Provenance({}, {"jax": "0.10.2"}, "cpu", 8, "2026-01-02T03:04:05+00:00")
    >>> differences([one, dataclasses.replace(one, versions={"jax": "0.10.3"}), one])
    'jax 0.10.2 (2 runs), jax 0.10.3 (1 run)'
    """
    known = list(origins)
    said = [origin for origin in known if origin is not None]
    parts = [_counted(origin.machine for origin in said)]
    for name in dict.fromkeys(name for origin in said for name in origin.versions):
        parts.append(_counted(f"{name} {origin.versions.get(name, 'not named')}" for origin in said))
    if said and len(said) < len(known):
        parts.append(f"{len(known) - len(said)} of {len(known)} runs do not say")
    return "; ".join(part for part in parts if part)


def _counted(words: Iterable[str]) -> str:
    found = collections.Counter(words)
    many = [f"{word} ({count} {'run' if count == 1 else 'runs'})" for word, count in found.items()]
    return ", ".join(many) if len(many) > 1 else ""


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
