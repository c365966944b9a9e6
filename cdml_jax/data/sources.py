"""A data set by its name: drawn birds, a folder, list files, a published set, array_record or a TFDS set."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

from cdml_jax.data.checks import Problems, verify
from cdml_jax.data.dataset import Dataset, FileSource, Source, Subset, carve
from cdml_jax.data.folder import read_folder
from cdml_jax.data.lists import read_lists
from cdml_jax.data.official.catalogue import SETS
from cdml_jax.data.official.listing import ABSENT
from cdml_jax.data.official.reading import differences, read_published
from cdml_jax.data.records import read_records
from cdml_jax.data.splits import assign, by_classes
from cdml_jax.errors import UserError

__all__ = ["Dataset", "FileSource", "Source", "Subset", "cache_directory", "load"]

_LOGGER = logging.getLogger(__name__)
_WITH_FOLDER = ("folder", "list", "array_record", *SETS)


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
) -> Dataset:
    """A data set with everything about it checked, so that training does not stop halfway.

    Args:
      source: "synthetic_birds/CONFIG", "folder:DIR" (`read_folder`), "list:DIR" (`read_lists`), "KEY:DIR"
        with a key of `SETS` and the folder where the publisher's archives were extracted,
        "array_record:DIR" (`read_records`), "tfds:NAME" or a bare TFDS name.
      data_dir: where prepared sets and the list of checked images are kept; "" is `cache_directory`.
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

    Returns:
      The data set. Shares are taken of every class alike, by the names of the images alone; every class keeps
      a training image.

    Raises:
      UserError: anything is wrong with the data or with what was asked for, all in one message.
    """
    fractions = {"test": test_fraction, "validation": validation_fraction, "holdout": holdout_fraction}
    names = {"train": train, "holdout": holdout, "validation": validation, "test": test}
    _check_request(names, fractions)
    directory = Path(data_dir).expanduser() if data_dir else cache_directory()
    problems = Problems(source)
    kind, _, rest = source.partition(":")
    if kind in _WITH_FOLDER and not rest:
        more = ""
        if kind in SETS:
            more = f", where {SETS[kind].title} was extracted (`cdml prepare {kind}` tells where to get it)"
        if kind == "cub200":
            more += "; without it, --config.source=synthetic_birds/cub_like has its size"
        raise UserError(f"{source!r} names no folder: write {kind}:DIR{more}")
    if kind in ("folder", "list"):
        dataset = (read_folder if kind == "folder" else read_lists)(rest, names, problems)
    elif kind in SETS or kind == "array_record":
        whole = read_records(rest) if kind == "array_record" else read_published(kind, rest, problems)
        differ = differences(kind, whole) if kind in SETS else []
        if differ:
            _LOGGER.warning("%s: %s: not comparable with published figures", source, "; ".join(differ))
        dataset = dataclasses.replace(whole, splits=assign(source, whole.splits, names))
    else:
        dataset = _read_tfds(source, directory, names)
    if class_disjoint:
        dataset = _class_disjoint(source, dataset)
    dataset = _carved(dataset, fractions)
    published = kind not in ("folder", "list")
    if kind in SETS and problems.has(ABSENT):
        check = False  # an archive that was not extracted whole is told once, not once more for every image
    contents = verify(dataset, problems, cache=directory, images=check, published=published)
    return dataclasses.replace(dataset, contents=contents)


def cache_directory() -> Path:
    """Where data are kept unless told otherwise: $CDML_DATA_DIR, else cdml_jax in the user's cache folder."""
    if os.environ.get("CDML_DATA_DIR"):
        return Path(os.environ["CDML_DATA_DIR"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "cdml_jax"


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


def _read_tfds(source: str, directory: Path, names: dict[str, str]) -> Dataset:
    from cdml_jax.data import (
        tfds_sets,
    )  # here, because importing TFDS takes a second that folders need not spend

    name = source.removeprefix("tfds:")
    if name.partition("/")[0] == "synthetic_birds":
        from cdml_jax.data import synthetic_birds

        config = name.partition("/")[2] or "demo"
        builder = synthetic_birds.prepare(config, str(directory))
        return tfds_sets.read_tfds(
            builder,
            f"synthetic_birds/{config}",
            names,
            class_names=tuple(synthetic_birds.class_names(config)),
            families=synthetic_birds.families(config),
            family_names=tuple(synthetic_birds.family_names(config)),
        )
    builder = tfds_sets.find_builder(name, directory)
    titles = {s.tfds: s.title for s in SETS.values() if s.tfds}
    return tfds_sets.read_tfds(builder, titles.get(builder.info.name, builder.info.name), names)


def _carved(dataset: Dataset, fractions: dict[str, float]) -> Dataset:
    splits = dict(dataset.splits)
    pool = len(splits["train"])
    for split, fraction in fractions.items():
        if not fraction or split in splits:
            continue
        # The first two are shares of the whole pool, whatever has been taken before.
        share = fraction if split == "holdout" else min(1.0, fraction * pool / max(1, len(splits["train"])))
        splits["train"], splits[split] = carve(splits["train"], share, salt=split)
    return dataclasses.replace(dataset, splits=splits)
