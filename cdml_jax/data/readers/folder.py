"""A folder of class folders, nested to any depth, as a data set."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.checking.verify import NO_TRAINING_IMAGE
from cdml_jax.data.classes import Classes, distinct_names, note_alike
from cdml_jax.data.dataset import Dataset, FileSource
from cdml_jax.data.images.kinds import readable_endings
from cdml_jax.data.readers.scanning import Folder, scan
from cdml_jax.data.readers.split_folders import role_of, split_folders
from cdml_jax.errors import UserError
from cdml_jax.system.files import path_of

Parts = tuple[str, ...]  # of a class folder's path below its split

_OUTSIDE = "image outside the class folders"
_ALIKE = "families that have the same classes; call them train and test if they are splits of one set"
_MOSTLY = 0.8  # of the classes of several families that all of them have, where they are not families
_EMPTY = "folder without an image in a class folder, passed over"


def read_folder(folder: str, names: dict[str, str], problems: Problems) -> Dataset:
    """The images below a folder, each in the class that its folder stands for.

    Sub-folders may be the splits (`split_folders`); otherwise everything is "train". A class is a folder that
    holds images; its family is the folder above (None throughout if no class folder has one). A class's name
    is its folder's own, with the family's in front where several families have a class of this name.

    Args:
      folder: the path.
      names: the splits' names by role; "" for none.
      problems: collects what is found wrong, and what is left out.

    Returns:
      The data set. Classes are in the order of their paths.

    Raises:
      UserError: there is no such folder, or a split that was asked for is not there.
    """
    root, where = Path(path_of(folder)), f"folder:{folder}"  # of this machine: opened one by one, fast
    if not root.is_dir():
        raise UserError(f"{where}: there is no such folder")
    whole = scan(root, problems)
    roots = split_folders(where, whole, names, problems)
    found = {split: _classes(split_root, problems) for split, split_root in roots.items()}
    classes = sorted({path for folders in found.values() for path in folders})
    if not any(images for folders in found.values() for images in folders.values()) and not problems.has():
        left_out = problems.images_left_out()
        more = f"; left out: {left_out}" if left_out else ""
        endings = ", ".join(sorted(readable_endings()))
        raise UserError(f"{where}: no image in any class folder ({endings}){more}")
    number = {path: label for label, path in enumerate(classes)}
    splits = {}
    for split, folders in found.items():
        items = [(file, number[path]) for path in sorted(folders) for file in folders[path]]
        splits[split] = FileSource(root, [file for file, _ in items], [label for _, label in items])
    families, family_names = _families(classes)
    class_names = _class_names(where, classes, families, family_names, problems)
    note_alike(class_names, problems.note)
    for path, name in zip(classes, class_names):
        left_out = problems.images_left_out("/".join((*filter(None, (roots["train"].path,)), *path)))
        others = "" if left_out else _others(roots["train"], path)
        if left_out or others:
            problems.explain(
                NO_TRAINING_IMAGE, name, f"{left_out} left out" if left_out else f"it has {others}"
            )
    return Dataset(root.resolve().name, Classes(class_names, families, family_names), splits)


def _classes(root: Folder, problems: Problems) -> dict[Parts, list[str]]:
    """The images of each class folder below a split's."""
    classes: dict[Parts, list[str]] = {}

    def visit(folder: Folder, parts: Parts) -> None:
        inner = [f for f in folder.folders if f.holds_images()]
        if folder.images and inner and parts:
            beside = f"{folder.path} holds {inner[0].path} too"
            problems.add(_OUTSIDE, f"{folder.images[0]} ({beside})")
        elif folder.images and not parts and folder.path and not inner:
            count = f"{len(folder.images):,} in {folder.path}"
            advice = (
                "one folder a class is needed; images without labels belong elsewhere, as for cdml predict"
            )
            problems.add(_OUTSIDE, f"{folder.images[0]} ({count}: {advice})")
        elif folder.images and not parts:
            problems.add(_OUTSIDE, folder.images[0])
        elif folder.images:
            # A folder of images alone is a class.
            classes.setdefault(parts, []).extend(folder.images)
            for empty in folder.folders:
                problems.note(_EMPTY, empty.path)
            return
        elif not folder.folders and parts and folder.opened:
            classes.setdefault(parts, [])
        for below in folder.folders:
            # macOS stores é as two characters; the same class must have the same name in every split
            visit(below, (*parts, unicodedata.normalize("NFC", below.name)))

    visit(root, ())
    return classes


def _others(root: Folder, path: Parts) -> str:
    """How many files of which endings, none of an image, lie in a class folder; "" for none."""
    folder: Folder | None = root
    for part in path:
        inside = folder.folders if folder else []
        folder = next((f for f in inside if unicodedata.normalize("NFC", f.name) == part), None)
    counts = Counter(folder.others if folder else []).most_common(3)
    return ", ".join(f"{count:,} {ending}" for ending, count in counts)


def _families(classes: list[Parts]) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    if all(len(path) == 1 for path in classes):
        return None, None
    # A class folder that lies in no other is a family of its own.
    parents = [path[:-1] or path for path in classes]
    order = sorted(set(parents))
    last = [path[-1] for path in order]
    names = tuple(p[-1] if last.count(p[-1]) == 1 else "/".join(p) for p in order)
    return tuple(order.index(path) for path in parents), names


def _class_names(
    where: str,
    classes: list[Parts],
    families: tuple[int, ...] | None,
    family_names: tuple[str, ...] | None,
    problems: Problems,
) -> tuple[str, ...]:
    """A name for each class.

    Raises:
      UserError: folders of one name lie in what seem to be splits.
    """
    names = [path[-1] for path in classes]
    roles = {role_of(name) for name in names}
    if len(roles) > 1 and "" not in roles and "train" in roles and all(len(path) > 1 for path in classes):
        raise UserError(
            f"{where}: {'/'.join(classes[0])} and the others seem to be splits inside classes: put the "
            f"classes into the splits, {role_of(names[0])}/{'/'.join(classes[0][:-1])}"
        )
    times = Counter(names)
    in_splits: dict[
        str, dict[str, tuple[Parts, Parts]]
    ] = {}  # by name and role: the class, what holds the split
    for path in classes:
        for i, part in enumerate(path[:-1]):
            if times[path[-1]] > 1 and (role := role_of(part)):
                in_splits.setdefault(path[-1], {}).setdefault(role, (path, path[:i]))
    for by_role in in_splits.values():
        if len(by_role) > 1:
            (first, above), (second, _), *_ = by_role.values()
            raise UserError(
                f"{where}: {'/'.join(first)} and {'/'.join(second)} seem to be one class in two splits: give "
                f"the folder that holds the splits, {'/'.join((where, *above))}"
            )
    if families is None or family_names is None:
        return tuple(names)
    _note_alike(classes, families, family_names, problems)
    own = [family_names[k] if len(path) > 1 else "" for path, k in zip(classes, families)]
    return distinct_names(names, own, problems.note)


def _note_alike(
    classes: list[Parts], families: tuple[int, ...], family_names: tuple[str, ...], problems: Problems
) -> None:
    """Notes families whose classes are nearly all the same: rather parts of one set than families."""
    members: dict[str, set[str]] = {}
    for path, family in zip(classes, families):
        members.setdefault(family_names[family], set()).add(path[-1])
    shared, every = set.intersection(*members.values()), set.union(*members.values())
    if len(members) > 1 and len(shared) > 1 and len(shared) >= _MOSTLY * len(every):
        problems.note(_ALIKE, f"{' and '.join(sorted(members))} ({', '.join(sorted(shared)[:3])}, …)")
