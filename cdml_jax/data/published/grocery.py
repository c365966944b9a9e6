"""The Grocery Store Dataset: list files with labels from 0, and a table of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.published.catalogue import PublishedSet
from cdml_jax.data.published.listing import Listing, Row, locate
from cdml_jax.data.readers.lists import read_lists


def read_grocery(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """The Grocery Store Dataset (M. Klasson et al., WACV 2019); families are its coarse classes."""
    archive = published.archives[0].name
    paths = locate(
        folder, published, dict.fromkeys(("classes.csv", "train.txt", "val.txt", "test.txt"), archive)
    )
    roles = {split: split for split in ("train", "validation", "test")}
    dataset = read_lists(str(paths[0].parent), roles, problems)
    rows = {}
    for split, source in dataset.splits.items():
        labels = np.asarray(source.labels).tolist()
        rows[split] = [Row(source.name(i), source.name(i), label) for i, label in enumerate(labels)]
    return Listing(paths[0].parent, dataset.classes, rows)
