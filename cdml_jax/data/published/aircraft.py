"""FGVC-Aircraft: lists of "image name", one for each level of its hierarchy and each split."""

from __future__ import annotations

from pathlib import Path

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import Classes
from cdml_jax.data.published.catalogue import PublishedSet
from cdml_jax.data.published.listing import Listing, Row, locate, read_pairs, read_text

BANNER = 20
"""Pixels at the foot of every photograph that show its copyright, to be cut off before use."""

_SPLITS = {"train": "train", "validation": "val", "test": "test"}


def read_aircraft(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """FGVC-Aircraft (S. Maji et al., 2013) at the level of variants; families are its own 70 families.

    Classes are in the order of variants.txt. Names have spaces and slashes ("F/A-18"). The banner of 20
    pixels at the foot of each photograph is cut off on reading, as the publisher asks.
    """
    archive = published.archives[0].name
    lists = [f"images_{level}_{split}.txt" for level in ("variant", "family") for split in _SPLITS.values()]
    images, variants, *paths = locate(
        folder, published, dict.fromkeys(("images", "variants.txt", *lists), archive)
    )
    names = tuple(line.strip() for line in read_text(variants).splitlines() if line.strip())
    number = {name: label for label, name in enumerate(names)}
    family_of_image = {key: name for path in paths[3:] for key, name, _ in read_pairs(path, problems)}
    family_of: dict[str, str] = {}
    rows: dict[str, list[Row]] = {}
    for split, path in zip(_SPLITS, paths[:3], strict=True):
        rows[split] = []
        for key, name, where in read_pairs(path, problems):
            if name not in number:
                problems.add("variant that variants.txt does not have", f"{name} ({where})")
                continue
            family = family_of_image.get(key)
            if family is None:
                problems.add("image without a family", f"{key} ({where})")
            elif family_of.setdefault(name, family) != family:
                problems.add("variant in two families", f"{name} ({family_of[name]} and {family}, {where})")
            rows[split].append(Row(f"{key}.jpg", f"{key}.jpg", number[name]))
    of_class = [family_of.get(name, name) for name in names]
    family_names = tuple(sorted(set(of_class)))
    return Listing(
        root=images,
        classes=Classes(names, tuple(family_names.index(family) for family in of_class), family_names),
        rows=rows,
        crop_bottom=BANNER,
    )
