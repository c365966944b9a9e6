"""Sets whose lists are MATLAB files: Stanford Cars, Stanford Dogs, Oxford Flowers-102."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import Classes
from cdml_jax.data.published.catalogue import PublishedSet
from cdml_jax.data.published.flower_names import FLOWERS
from cdml_jax.data.published.listing import Listing, Row, distinct, find, locate, read_matlab
from cdml_jax.errors import UserError


def read_cars(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """Stanford Cars (J. Krause et al., 2013), in either of its two forms.

    car_ims/ with cars_annos.mat holds both splits in one list; cars_train/ and cars_test/ have a list each
    (the devkit's own list of the test split has no labels: cars_test_annos_withlabels.mat is needed). The two
    forms name the images differently, so their checksums differ. Labels count from 1. A class name with a
    slash ("Ram C/V Cargo Van") is kept as it is.
    """
    if folder.is_dir() and find(folder, "car_ims"):
        images, annotations = locate(
            folder, published, {"car_ims": "car_ims.tgz", "cars_annos.mat": "cars_annos.mat"}
        )
        titles, entries = read_matlab(annotations, "class_names", "annotations")
        _require(annotations, entries, "relative_im_path", "class", "test")
        rows: dict[str, list[Row]] = {"train": [], "test": []}
        for entry in np.atleast_1d(entries):
            name = str(entry["relative_im_path"])
            file = images.relative_to(folder) / name.rpartition("/")[2]
            rows["test" if int(entry["test"]) else "train"].append(
                Row(name, file.as_posix(), int(entry["class"]) - 1)
            )
        return Listing(folder, Classes(tuple(map(str, np.atleast_1d(titles)))), rows)
    train, test, meta, train_list, test_list = locate(
        folder,
        published,
        {
            "cars_train": "cars_train.tgz",
            "cars_test": "cars_test.tgz",
            "cars_meta.mat": "car_devkit.tgz",
            "cars_train_annos.mat": "car_devkit.tgz",
            "cars_test_annos_withlabels.mat": "cars_test_annos_withlabels.mat",
        },
    )
    (titles,) = read_matlab(meta, "class_names")
    rows = {}
    for split, images, annotations in (("train", train, train_list), ("test", test, test_list)):
        (entries,) = read_matlab(annotations, "annotations")
        _require(annotations, entries, "fname", "class")
        below = images.relative_to(folder).as_posix()
        rows[split] = [
            Row(f"{images.name}/{entry['fname']}", f"{below}/{entry['fname']}", int(entry["class"]) - 1)
            for entry in np.atleast_1d(entries)
        ]
    return Listing(folder, Classes(tuple(map(str, np.atleast_1d(titles)))), rows)


def read_dogs(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """Stanford Dogs (A. Khosla et al., 2011).

    Labels count from 1; an image's folder says its class too ("n02085620-Chihuahua"), and the two must agree.
    """
    images, *lists = locate(
        folder,
        published,
        {"Images": "images.tar", "train_list.mat": "lists.tar", "test_list.mat": "lists.tar"},
    )
    folder_of: dict[int, str] = {}
    rows: dict[str, list[Row]] = {}
    for split, path in zip(("train", "test"), lists, strict=True):
        files, labels = (np.atleast_1d(column) for column in read_matlab(path, "file_list", "labels"))
        if len(files) != len(labels):
            raise UserError(f"{path}: {len(files)} files but {len(labels)} labels")
        rows[split] = []
        for file, label in zip(map(str, files), map(int, labels), strict=True):
            breed = file.partition("/")[0]
            if folder_of.setdefault(label, breed) != breed:
                problems.add(
                    "label that disagrees with the image's folder",
                    f"{label} for {file} ({path.name}), elsewhere {folder_of[label]}",
                )
            rows[split].append(Row(file, file, label - 1))
    breeds = [folder_of.get(label, str(label)) for label in range(1, max(folder_of, default=0) + 1)]
    names = [breed.partition("-")[2].replace("_", " ") or breed for breed in breeds]
    return Listing(images, Classes(distinct(names, breeds)), rows)


def read_flowers(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """Oxford Flowers-102 (M.-E. Nilsback and A. Zisserman, 2008).

    imagelabels.mat has a label, from 1, for image_00001.jpg and on; setid.mat says which images, from 1, are
    in which split. The training split is the small one (10 a class), as published. The archive names no
    class: the names are those of the publisher's page.
    """
    images, labels_file, splits_file = locate(
        folder,
        published,
        {"jpg": "102flowers.tgz", "imagelabels.mat": "imagelabels.mat", "setid.mat": "setid.mat"},
    )
    labels = np.atleast_1d(read_matlab(labels_file, "labels")[0]).astype(int)
    variables = read_matlab(splits_file, "trnid", "valid", "tstid")
    rows: dict[str, list[Row]] = {}
    for split, numbers in zip(("train", "validation", "test"), variables, strict=True):
        rows[split] = []
        for number in np.atleast_1d(numbers).astype(int).tolist():
            if not 1 <= number <= len(labels):
                problems.add(
                    "image without a label", f"{number} in setid.mat; there are {len(labels)} labels"
                )
                continue
            file = f"image_{number:05d}.jpg"
            rows[split].append(Row(file, file, int(labels[number - 1]) - 1))
    return Listing(images, Classes(FLOWERS[: labels.max(initial=0)]), rows)


def _require(path: Path, entries: np.ndarray, *fields: str) -> None:
    absent = [field for field in fields if field not in (entries.dtype.names or ())]
    if absent:
        hint = "; cars_test_annos_withlabels.mat has the test labels" if "class" in absent else ""
        raise UserError(f"{path}: its annotations have no {', '.join(absent)}{hint}")
