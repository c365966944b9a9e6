"""What methods put before a network's heads, by name."""

from __future__ import annotations

from collections.abc import Mapping

from cdml_jax.models.parts.bilinear import Bilinear, CompactBilinear
from cdml_jax.models.parts.navigation import Navigation
from cdml_jax.models.parts.object_crop import ObjectCrop
from cdml_jax.models.parts.part import ImagePart, Part, source_of
from cdml_jax.models.parts.progressive import ProgressiveStages, PublishedStages
from cdml_jax.models.parts.spatial_transformer import SpatialTransformer
from cdml_jax.models.parts.two_levels import TwoLevels

PARTS: dict[str, type[Part]] = {
    "two_levels": TwoLevels,
    "bilinear": Bilinear,
    "compact_bilinear": CompactBilinear,
    "pmg": ProgressiveStages,
    "pmg_published": PublishedStages,
    "nts_net": Navigation,
    "spatial_transformer": SpatialTransformer,
    "object_crop": ObjectCrop,
}

__all__ = ["PARTS", "ImagePart", "Part", "apart_of", "rates_of", "source_of"]


def rates_of(part: str) -> Mapping[str, float]:
    """Factors of learning rates by the beginning of a parameter's name; none for "", no part."""
    return PARTS[part].rates if part else {}


def apart_of(part: str) -> tuple[str, ...]:
    """Beginnings of the names of parameters whose gradients are clipped by themselves; none for ""."""
    return PARTS[part].apart if part else ()
