"""`cdml prepare`: what a data set has, what it lacks and where to get it; and its array_record files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from cdml_jax.data.checking.problems import Problems, check_report
from cdml_jax.data.checking.verify import verify
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.published.catalogue import SETS, PublishedSet
from cdml_jax.data.published.listing import ABSENT
from cdml_jax.data.published.reading import differences, read_published
from cdml_jax.data.readers.array_record import write_records
from cdml_jax.data.sources import OWN, divided, images_cache, load
from cdml_jax.errors import UserError
from cdml_jax.system import console


@dataclasses.dataclass(frozen=True)
class Trial:
    """What training on one's own images would draw from them, so that it is not the first to refuse them.

    Attributes:
      config: the configuration that says so.
      fractions: the share of each split that is drawn where the set lacks it.
    """

    config: str
    fractions: Mapping[str, float]


def prepare(
    source: str,
    *,
    out: str | os.PathLike | None = None,
    images: bool = True,
    classes: bool = False,
    data_dir: str = "",
    trial: Trial | None = None,
    report: str | os.PathLike | None = None,
) -> None:
    """Checks a data set and prints what it holds; writes it as array_record files where asked to.

    Args:
      source: as for `load`; or the key of a published set alone, to print where to get it.
      out: a folder for array_record files, or None.
      images: whether to decode every image.
      classes: whether to list every class with its images per split.
      data_dir: as for `load`.
      trial: what would be drawn from one's own images; None draws nothing.
      report: a file for everything that is wrong, left out or worth a look (`Problems.write`), or None.

    Raises:
      UserError: something is missing or wrong, a published set is not as it was published, or the report's
        file is one of something else.
    """
    key = source.partition(":")[0]
    if source in SETS:
        console.result(_directions(SETS[source]))
        return
    if report is not None:
        check_report(report)
    if images:
        console.say("Reading every image (what was found good before is remembered) ...")
    problems = Problems(source, whole=True)
    try:
        dataset = _checked(source, images, data_dir, trial, problems)
    except UserError:
        problems.warn()
        raise
    finally:
        if report is not None:
            count = problems.write(report)
            console.result(f"{report}: {count:,} lines of what was found")
    console.result(_summary(dataset))
    if classes:
        console.result(_classes(dataset))
    differ = differences(key, dataset) if key in SETS else []
    if differ:
        raise UserError(f"{source} is not {dataset.name} as published: {'; '.join(differ)}")
    if dataset.checksum:
        published = next((s for s in SETS.values() if s.checksum == dataset.checksum), None)
        known = "as published" if published else "the published one is not known here"
        console.result(f"Split checksum {dataset.checksum} ({known})")
    if trial is not None and key in OWN and not dataset.checksum:
        console.result(_drawn(dataset, trial))
    console.result(_verdict(problems) if images else "The images were not opened.")
    if out is not None:
        write_records(dataset, out)
        source = f"array_record:{out}"
    console.result(f"Use it: --config.source={source}")


def _checked(source: str, images: bool, data_dir: str, trial: Trial | None, problems: Problems) -> Dataset:
    key, _, folder = source.partition(":")
    if key in SETS:
        return _published(key, folder, images, data_dir, problems)
    dataset = load(source, data_dir=data_dir, check=images, thorough=images, problems=problems)
    if trial is not None and key in OWN and not dataset.checksum:
        divided(dataset, trial.fractions, problems)
        problems.raise_if_any()
    return dataset


def _published(key: str, folder: str, images: bool, data_dir: str, problems: Problems) -> Dataset:
    if not folder:
        raise UserError(f"{key}: names no folder: write {key}:DIR")
    with console.working(f"Reading {key}:{folder}"):
        dataset = read_published(key, folder, problems)
    check = images and not problems.has(ABSENT)
    cache = images_cache(data_dir)
    try:
        return verify(dataset, problems, cache=cache, images=check, published=True, thorough=check)
    except UserError as error:
        raise UserError(f"{error}\nThe archives: {SETS[key].where()}") from error


def _verdict(problems: Problems) -> str:
    found = (
        ""
        if problems.is_clean()
        else "; what is worth a look stands above, and --report=FILE writes it to a file"
    )
    return f"Every image can be read{found}."


def _drawn(dataset: Dataset, trial: Trial) -> str:
    """What training would make of the images."""
    splits = divided(dataset, trial.fractions, Problems("")).splits
    sizes = ", ".join(f"{len(images):,} {split}" for split, images in splits.items())
    return f"As --config={trial.config} divides it: {sizes}"


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
    families = dataset.classes.family_names
    kin = f" in {len(families):,} {'family' if len(families) == 1 else 'families'}" if families else ""
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
    named = dataset.classes
    for label, name in enumerate(named.names):
        family = ""
        if named.families is not None and named.family_names is not None:
            family = named.family_names[named.families[label]]
        words = map(console.escaped, (name, family))
        lines.append("\t".join([str(label), *(str(c[label]) for c in counts), *words]).rstrip())
    return "\n".join(lines)
