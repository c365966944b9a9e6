"""`cdml prepare`: what a data set has, what it lacks and where to get it; and its array_record files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cdml_jax.data.checks import Problems, verify
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.official.catalogue import SETS, PublishedSet
from cdml_jax.data.official.listing import ABSENT
from cdml_jax.data.official.reading import differences, read_published
from cdml_jax.data.records import write_records
from cdml_jax.data.sources import cache_directory, load
from cdml_jax.errors import UserError


def prepare(
    source: str,
    *,
    out: Path | None = None,
    images: bool = True,
    classes: bool = False,
    data_dir: str = "",
    say: Callable[[str], None] = print,
) -> None:
    """Checks a data set and tells what it holds; writes it as array_record files where asked to.

    Args:
      source: as for `load`; or the key of a published set alone, to be told where to get it.
      out: a folder for array_record files, or None.
      images: whether to decode every image.
      classes: whether to list every class with its images per split.
      data_dir: as for `load`.
      say: is given every line.

    Raises:
      UserError: something is missing or wrong, or a published set is not as it was published.
    """
    key, _, folder = source.partition(":")
    if source in SETS:
        say(_directions(SETS[source]))
        return
    if images:
        say("Reading every image (what was found good before is remembered) ...")
    if key in SETS:
        dataset = _published(key, folder, images, data_dir)
    else:
        dataset = load(source, data_dir=data_dir, check=images)
    say(_summary(dataset))
    if classes:
        say(_classes(dataset))
    differ = differences(key, dataset) if key in SETS else []
    if differ:
        raise UserError(f"{source} is not {dataset.name} as published: {'; '.join(differ)}")
    if dataset.checksum:
        published = next((s for s in SETS.values() if s.checksum == dataset.checksum), None)
        known = "as published" if published else "the published one is not known here"
        say(f"Split checksum {dataset.checksum} ({known})")
    say("Every image can be read." if images else "The images were not opened.")
    if out is not None:
        write_records(dataset, out, say)
        source = f"array_record:{out}"
    say(f"Use it: --config.source={source}")


def _published(key: str, folder: str, images: bool, data_dir: str) -> Dataset:
    if not folder:
        raise UserError(f"{key}: names no folder: write {key}:DIR")
    source = f"{key}:{folder}"
    problems = Problems(source)
    dataset = read_published(key, folder, problems)
    cache = Path(data_dir).expanduser() if data_dir else cache_directory()
    try:
        verify(dataset, problems, cache=cache, images=images and not problems.has(ABSENT), published=True)
    except UserError as error:
        raise UserError(f"{error}\nThe archives: {SETS[key].where()}") from error
    return dataset


def _directions(published: PublishedSet) -> str:
    counts = ", ".join(f"{count:,} {split}" for split, count in published.counts.items())
    archives = "\n".join(f"  {archive}" for archive in published.archives)
    return (
        f"{published.title}: {published.num_classes:,} classes; images: {counts}\n"
        f"Page: {published.home}\n"
        f"Terms: {published.terms}\n"
        f"Extract into one folder DIR:\n{archives}\n"
        f"DIR then holds {published.layout}\n"
        f"Check it: cdml prepare {published.key}:DIR"
    )


def _summary(dataset: Dataset) -> str:
    kin = f" in {len(dataset.family_names):,} families" if dataset.family_names else ""
    lines = [f"{dataset.name}: {dataset.num_classes:,} classes{kin}"]
    for split, source in dataset.splits.items():
        per_class = np.bincount(np.asarray(source.labels), minlength=dataset.num_classes)
        lines.append(
            f"  {split:<12}{len(source):>10,} images, {per_class.min():,} to {per_class.max():,} a class"
        )
    return "\n".join(lines)


def _classes(dataset: Dataset) -> str:
    counts = [
        np.bincount(np.asarray(s.labels), minlength=dataset.num_classes) for s in dataset.splits.values()
    ]
    lines = ["\t".join(["label", *dataset.splits, "class", "family"])]
    for label, name in enumerate(dataset.class_names):
        family = ""
        if dataset.families is not None and dataset.family_names:
            family = dataset.family_names[dataset.families[label]]
        lines.append("\t".join([str(label), *(str(c[label]) for c in counts), name, family]).rstrip())
    return "\n".join(lines)
