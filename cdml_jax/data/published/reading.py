"""A published set from the folder where its archives were extracted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.dataset import Dataset, FileSource, Source
from cdml_jax.data.dividing.derived import BottomCropped
from cdml_jax.data.dividing.splits import split_checksum
from cdml_jax.data.published.aircraft import read_aircraft
from cdml_jax.data.published.birds import read_cub, read_nabirds
from cdml_jax.data.published.catalogue import SETS, PublishedSet
from cdml_jax.data.published.grocery import read_grocery
from cdml_jax.data.published.inaturalist import read_inaturalist
from cdml_jax.data.published.listing import Listing, note_absent_files
from cdml_jax.data.published.matlab import read_cars, read_dogs, read_flowers
from cdml_jax.system.files import path_of

_READERS: dict[str, Callable[[Path, PublishedSet, Problems], Listing]] = {
    "cub200": read_cub,
    "cars196": read_cars,
    "dogs120": read_dogs,
    "aircraft100": read_aircraft,
    "flowers102": read_flowers,
    "nabirds": read_nabirds,
    "inat2021": read_inaturalist,
    "inat2021_mini": read_inaturalist,
    "grocery": read_grocery,
}


def read_published(key: str, folder: str, problems: Problems) -> Dataset:
    """A published set with all its splits, called "train", "validation" and "test" where it has them.

    A set that differs from what was published is read as it is; `differences` says how.

    Args:
      key: one of `SETS`.
      folder: where its archives were extracted.
      problems: collects what is found wrong, listed images that are not there among it.

    Raises:
      UserError: a list or a folder of images is missing, or a list cannot be read.
    """
    listing = _READERS[key](Path(path_of(folder)), SETS[key], problems)
    note_absent_files(listing, problems)
    splits = sources_of(listing)
    checksum = split_checksum(splits)
    return Dataset(SETS[key].title, listing.classes, splits, checksum=checksum, boxes=listing.boxes)


def sources_of(listing: Listing) -> dict[str, Source]:
    """The images of each of a listing's splits."""
    sources: dict[str, Source] = {}
    for split, rows in listing.rows.items():
        files = FileSource(
            listing.root,
            [row.file for row in rows],
            np.array([row.label for row in rows], np.int32),
            names=[row.name for row in rows],
        )
        sources[split] = BottomCropped(files, listing.crop_bottom) if listing.crop_bottom else files
    return sources


def differences(key: str, dataset: Dataset) -> list[str]:
    """How a set, read with all its splits, differs from what its publisher describes.

    Args:
      key: one of `SETS`.
      dataset: what `read_published` gave.

    Returns:
      One phrase for each difference in the number of classes, the images of a split, or (all else being
      equal, and where it is known) the checksum.
    """
    published = SETS[key]
    found = []
    if dataset.num_classes != published.num_classes:
        found.append(f"{dataset.num_classes:,} classes, not {published.num_classes:,}")
    for split, count in published.counts.items():
        if len(dataset.splits[split]) != count:
            found.append(f"{len(dataset.splits[split]):,} images in {split}, not {count:,}")
    if not found and published.checksum not in ("", dataset.checksum):
        found.append("the right numbers, but other images, labels or splits")
    return found
