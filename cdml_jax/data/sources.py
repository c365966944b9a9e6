"""A data set by its name: drawn birds, a folder, list files, a published set, array_record or a TFDS set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from etils import epath

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.checking.verify import NO_IMAGE, verify
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.dividing.boxes import cut_out
from cdml_jax.data.dividing.splits import assign, by_classes, carve
from cdml_jax.data.published.catalogue import SETS
from cdml_jax.data.published.listing import ABSENT
from cdml_jax.data.published.reading import differences, read_published
from cdml_jax.data.readers.array_record import read_records
from cdml_jax.data.readers.folder import read_folder
from cdml_jax.data.readers.lists import read_lists
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.files import cache_directory, cache_directory_if_any, path_of

OWN = ("folder", "list", "array_record")  # where nobody else has published the splits
_WITH_FOLDER = (*OWN, *SETS)


IN_MEMORY = "python:"  # the source of a run on a data set that a program made


def load(
    source: str,
    *,
    data_dir: str = "",
    train: str = "train",
    validation: str = "validation",
    test: str = "test",
    holdout: str = "",
    holdout_fraction: float = 0.0,
    validation_fraction: float = 0.0,
    test_fraction: float = 0.0,
    check: bool = True,
    class_disjoint: bool = False,
    boxes: str = "",
    remembered: bool = True,
    thorough: bool = False,
    problems: Problems | None = None,
) -> Dataset:
    """A data set with everything about it checked, so that training does not stop halfway.

    Args:
      source: "synthetic_birds/CONFIG", "folder:DIR" (`read_folder`), "list:DIR" (`read_lists`), "KEY:DIR"
        with a key of `SETS` and the folder where the publisher's archives were extracted,
        "array_record:DIR" (`read_records`), "tfds:NAME" or a bare TFDS name.
      data_dir: where prepared sets and the list of checked images are kept, a folder or a bucket; "" is
        `cache_directory`.
      train: the training split's name: a sub-folder, a list file or a TFDS split ("train[:80%]").
      validation: the validation split's name; "" for none. Left at its default, it may be missing.
      test: the test split's name, likewise.
      holdout: the name of a split used for nothing but counting confusions, or "".
      holdout_fraction: share of the training images, after the two below, to hold out; 0 for none.
      validation_fraction: share of the training split to take for validation where the set has no such
        split of its own; 0 for none.
      test_fraction: share of the training split to take for testing, likewise.
      check: whether to decode every image and look for the same image in two splits. What was found good is
        remembered, so only the first start takes time.
      class_disjoint: train on the first classes and test on the others, never seen (`by_classes`), where the
        field has such a protocol.
      boxes: a file of `cdml localize`: each image, once checked, is cut out by its box (`cut_out`).
      remembered: whether an image of the size and time of change at which it was found good is taken to be
        unchanged.
      thorough: whether to look for nearly equal images too.
      problems: collects what is found; None makes one.

    Returns:
      The data set. Shares are taken of every class alike, by the names of the images alone; every class keeps
      a training image. Of one's own images equal ones stay in one split (`carve`).

    Raises:
      UserError: anything is wrong with the data or with what was asked for, all in one message.
    """
    fractions = {"test": test_fraction, "validation": validation_fraction, "holdout": holdout_fraction}
    names = {"train": train, "holdout": holdout, "validation": validation, "test": test}
    _check_request(names, fractions)
    problems = problems or Problems(source)
    kind, _, rest = source.partition(":")
    if source.startswith(IN_MEMORY):
        raise UserError(
            f"source: {rest} was given to cdml_jax.train by a Python program and is not on disk; use the run "
            "there, or say where such images are by --config.source=..."
        )
    if kind in _WITH_FOLDER:
        if not rest:
            raise UserError(_which_folder(source, kind))
        with console.working(f"Reading {source}"):
            dataset = _read_folder(source, names, problems)
    else:
        dataset = _read_tfds(source, path_of(data_dir) if data_dir else cache_directory(), names)
    if class_disjoint:
        dataset = _class_disjoint(source, dataset)
    if kind in SETS and problems.has(ABSENT):
        check = False  # an archive that was not extracted whole is said once, not once more for every image
    dataset = verify(
        dataset,
        problems,
        cache=images_cache(data_dir),
        images=check,
        published=kind not in OWN or bool(dataset.checksum),
        remembered=remembered,
        thorough=thorough,
        divide=functools.partial(divided, fractions=fractions, problems=problems),
    )
    return cut_out(dataset, boxes)


def images_cache(data_dir: str) -> epath.Path | None:
    """Where the list of checked images is kept: `data_dir`, else the user's cache folder if there is one.

    Where there is none, every start checks all images.
    """
    return path_of(data_dir) if data_dir else cache_directory_if_any()


def _check_request(names: dict[str, str], fractions: dict[str, float]) -> None:
    if not names["train"]:
        raise UserError("train must name a split")
    for split, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise UserError(f"{split}_fraction must be at least 0 and less than 1, not {fraction}")
    if fractions["test"] + fractions["validation"] >= 1:
        raise UserError(
            f"validation_fraction ({fractions['validation']}) and test_fraction ({fractions['test']}) "
            "leave no training images"
        )
    roles: dict[str, str] = {}
    for role, name in names.items():
        if name and roles.setdefault(name, role) != role:
            raise UserError(f"{roles[name]} and {role} are both {name!r}: splits must not overlap")


def _which_folder(source: str, kind: str) -> str:
    more = ""
    if kind in SETS:
        more = f", where {SETS[kind].title} was extracted (`cdml prepare {kind}` says where to get it)"
    if kind == "cub200":
        more += "; without it, --config.source=synthetic_birds/cub_like has its size"
    return f"{source!r} names no folder: write {kind}:DIR{more}"


def _read_folder(source: str, names: dict[str, str], problems: Problems) -> Dataset:
    kind, _, folder = source.partition(":")
    if in_bucket(folder) and kind != "array_record":
        raise UserError(
            f"{source}: images are read one by one, from a disk of this machine; write them into the bucket "
            f"as a few large files, `cdml prepare {kind}:DIR --out=gs://BUCKET/SET`, and give "
            "--config.source=array_record:gs://BUCKET/SET"
        )
    if kind == "folder":
        return read_folder(folder, names, problems)
    if kind == "list":
        return read_lists(folder, names, problems)
    if kind == "array_record":
        whole = read_records(folder)
    else:
        whole = read_published(kind, folder, problems)
        differ = differences(kind, whole)
        if differ:
            console.warn(f"{source}: {'; '.join(differ)}: not comparable with published figures")
    return dataclasses.replace(whole, splits=assign(source, whole.splits, names))


def _class_disjoint(source: str, dataset: Dataset) -> Dataset:
    protocols = {p.title: p.disjoint_classes for p in SETS.values() if p.disjoint_classes}
    if dataset.name not in protocols:
        keys = " and ".join(key for key, p in SETS.items() if p.disjoint_classes)
        raise UserError(f"data.class_disjoint: {source} has no such protocol; {keys} have")
    if set(dataset.splits) != {"train", "test"}:
        raise UserError(
            "data.class_disjoint: needs the publisher's train and test splits, both of them and no other; "
            "leave data.train, data.validation, data.test and data.holdout as they are"
        )
    return by_classes(dataset, protocols[dataset.name])


def _read_tfds(source: str, directory: epath.Path, names: dict[str, str]) -> Dataset:
    # Imported here: TFDS takes a second, which folders need not spend.
    from cdml_jax.data.readers import tfds_sets

    name = source.removeprefix("tfds:")
    if name.partition("/")[0] == "synthetic_birds":
        from cdml_jax.data.birds import synthetic_birds

        config = name.partition("/")[2] or "demo"
        builder = synthetic_birds.prepare(config, directory)
        classes = synthetic_birds.classes(config)
        return tfds_sets.read_tfds(builder, f"synthetic_birds/{config}", names, classes=classes)
    unknown = (
        f"unknown data set {name!r}: give synthetic_birds/demo, folder:DIR, list:DIR or a TFDS set's name, "
        f"array_record:DIR, or one of {', '.join(f'{key}:DIR' for key in SETS)}"
    )
    with console.working(f"Reading {source}"):
        builder = tfds_sets.find_builder(name, directory, unknown=unknown)
        titles = {s.tfds: s.title for s in SETS.values() if s.tfds}
        return tfds_sets.read_tfds(builder, titles.get(builder.info.name, builder.info.name), names)


def divided(dataset: Dataset, fractions: Mapping[str, float], problems: Problems) -> Dataset:
    """The data set with shares of its training images as the splits that it lacks.

    Args:
      dataset: whose splits stay.
      fractions: the share of each split to draw, in this order; 0 draws none.
      problems: collects splits for which no image is left.
    """
    splits = dict(dataset.splits)
    pool = len(splits["train"])
    for split, fraction in fractions.items():
        if not fraction or split in splits:
            continue
        # The first two are shares of the whole pool, whatever has been taken before.
        share = fraction if split == "holdout" else min(1.0, fraction * pool / max(1, len(splits["train"])))
        splits["train"], splits[split] = carve(splits["train"], share, salt=split)
        if not len(splits[split]):
            few = f"{fraction:.0%} of {pool:,} images, in which every class keeps one; copies stay together"
            problems.explain(NO_IMAGE, split, f"{few}; set data.{split}_fraction" if pool else "")
            problems.add(NO_IMAGE, split)
    return dataclasses.replace(dataset, splits=splits)
