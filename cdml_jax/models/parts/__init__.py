"""What methods put between a network's last maps and its heads, by name."""

from __future__ import annotations

from collections.abc import Mapping

from cdml_jax.models.parts.bilinear import Bilinear, CompactBilinear
from cdml_jax.models.parts.part import Part
from cdml_jax.models.parts.two_levels import TwoLevels

PARTS: dict[str, type[Part]] = {
    "two_levels": TwoLevels,
    "bilinear": Bilinear,
    "compact_bilinear": CompactBilinear,
}

__all__ = ["PARTS", "Part", "rates_of"]


def rates_of(part: str) -> Mapping[str, float]:
    """Factors of learning rates by the beginning of a parameter's name; none for "", no part."""
    return PARTS[part].rates if part else {}
