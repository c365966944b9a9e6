"""CUB-200-2011 and NABirds: tables keyed by an image's id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import KnownBox
from cdml_jax.data.published.catalogue import PublishedSet
from cdml_jax.data.published.listing import Listing, Row, distinct, locate, read_pairs

_TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def read_cub(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """CUB-200-2011 (C. Wah et al., 2011).

    Class ids count from 1; classes.txt and the image folders call a class "001.Black_footed_Albatross", here
    "Black footed Albatross". There are no families. bounding_boxes.txt, if it is there, has the birds' boxes.
    """
    archive = published.archives[0].name
    paths = locate(folder, published, dict.fromkeys((*_TABLES, "images"), archive))
    classes, rows = _read_tables(paths, problems)
    raw = [classes[c] for c in sorted(classes)]
    names = [name.partition(".")[2].replace("_", " ") or name for name in raw]
    boxes = _read_boxes(paths[0], problems)
    return Listing(paths[4], Classes(distinct(names, raw)), rows, boxes=boxes)


def read_nabirds(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """NABirds (G. Van Horn et al., CVPR 2015).

    The ids in classes.txt are nodes of a hierarchy: sexes and plumages, under species, under families, under
    orders. The classes are the nodes that have images, in the order of their ids. A class's family is the
    node above its species: a family where the order is perching birds, else the order (50 in all).
    """
    archive = published.archives[0].name
    paths = locate(folder, published, dict.fromkeys((*_TABLES, "images", "hierarchy.txt"), archive))
    classes, rows = _read_tables(paths, problems, used=True)
    nodes = sorted(classes)
    parents: dict[int, int] = {}
    for child, parent, where in read_pairs(paths[5], problems):
        if child.isdecimal() and parent.isdecimal():
            parents[int(child)] = int(parent)
        else:
            problems.add("node that is not a whole number", f"{where} ({child} {parent})")
    above = [parents.get(parents.get(node, -1), -1) for node in nodes]
    for node in [node for node, family in zip(nodes, above, strict=True) if family < 0]:
        problems.add("class without a family in hierarchy.txt", f"{node} ({classes[node]})")
    titles = dict(_classes(paths[3], problems))
    order = sorted(set(above))
    named = Classes(
        distinct([classes[node] for node in nodes], [str(node) for node in nodes]),
        tuple(order.index(family) for family in above),
        distinct([titles.get(f, str(f)) for f in order], [str(f) for f in order]),
    )
    return Listing(paths[4], named, rows)


def _read_tables(
    paths: list[Path], problems: Problems, *, used: bool = False
) -> tuple[dict[int, str], dict[str, list[Row]]]:
    """Names of the classes by id (`used`: of those that have images), and rows that number them from 0."""
    images, labels, split, names, _ = paths[:5]
    classes = dict(_classes(names, problems))
    label_of = {key: (value, where) for key, value, where in read_pairs(labels, problems)}
    is_train = {key: (value, where) for key, value, where in read_pairs(split, problems)}
    found: dict[str, list[Row]] = {"train": [], "test": []}
    for key, file, where in read_pairs(images, problems):
        if key not in label_of or key not in is_train:
            lacking = labels.name if key not in label_of else split.name
            problems.add(f"image that {lacking} does not have", f"{file} ({where})")
            continue
        (label, labelled), (flag, divided) = label_of[key], is_train[key]
        folder = file.partition("/")[0].partition(".")[0]
        if not label.isdecimal() or int(label) not in classes:
            problems.add(f"label that {names.name} does not have", f"{label} ({labelled})")
        elif not folder.isdecimal() or int(folder) != int(label):
            problems.add("label that disagrees with the image's folder", f"{label} for {file} ({labelled})")
        elif flag not in ("0", "1"):
            problems.add("split that is neither 0 nor 1", f"{flag} ({divided})")
        else:
            found["train" if flag == "1" else "test"].append(Row(file, file, int(label)))
    if used:
        with_images = {row.label for rows in found.values() for row in rows}
        classes = {c: classes[c] for c in with_images}
    number = {c: i for i, c in enumerate(sorted(classes))}
    rows = {s: [row._replace(label=number[row.label]) for row in rows] for s, rows in found.items()}
    return classes, rows


def _read_boxes(images: Path, problems: Problems) -> dict[str, KnownBox]:
    """Boxes by the images' names, from the table beside that of the images: id, left, top, width, height."""
    path = images.with_name("bounding_boxes.txt")
    if not path.exists():
        return {}
    names = {key: file for key, file, _ in read_pairs(images, Problems(""))}  # said already
    found: dict[str, KnownBox] = {}
    for key, text, where in read_pairs(path, problems):
        try:
            left, top, width, height = map(float, text.split())
        except ValueError:
            problems.note("box that is not four numbers", f"{where} ({text[:40]})")
            continue
        if key in names:
            found[names[key]] = (left, top, left + width, top + height)
    return found


def _classes(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    for key, name, where in read_pairs(path, problems):
        if key.isdecimal():
            yield int(key), name
        else:
            problems.add("class id that is not a whole number", f"{where} ({key})")
