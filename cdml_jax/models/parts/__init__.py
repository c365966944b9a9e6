"""What methods put between a network's last map and its heads, by name."""

from __future__ import annotations

from collections.abc import Callable

from cdml_jax.models.parts.part import Part
from cdml_jax.models.parts.two_levels import TwoLevels

# Called as part(channels of the map, family of each class or None, spec, rngs=...).
PARTS: dict[str, Callable[..., Part]] = {"two_levels": TwoLevels}

__all__ = ["PARTS", "Part"]
