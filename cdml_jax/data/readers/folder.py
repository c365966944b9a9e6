"""A folder of class folders, nested to any depth, as a data set."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from cdml_jax.data.checks import Problems
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset, FileSource
from cdml_jax.data.dividing.splits import ALIASES
from cdml_jax.data.images.decoding import EXTENSIONS
from cdml_jax.errors import UserError
from cdml_jax.system.files import path_of

_NOT_UTF8 = "name that is not UTF-8"
_NOWHERE = "link that leads nowhere"
_SPECIAL = "neither a file nor a folder"  # a pipe, a socket, a device: to open it might never end


def read_folder(folder: str, names: dict[str, str], problems: Problems) -> Dataset:
    """The images below a folder, each in the class that its folder stands for.

    If the folder has a sub-folder for the training split and one for another split (or nothing else), these
    are the splits; otherwise everything is "train". A class is a folder that holds images; its family is the
    folder above (None throughout if no class folder has one). A class's name is its folder's own, without the
    ones above.

    Args:
      folder: the path.
      names: the splits' names by role; "" for none.
      problems: collects what is found wrong.

    Returns:
      The data set. Classes are in the order of their paths.

    Raises:
      UserError: there is no such folder, or a split that was asked for is not there.
    """
    root = Path(path_of(folder))  # of this machine: photographs are opened one by one, fast
    if not root.is_dir():
        raise UserError(f"folder:{folder}: there is no such folder")
    roots = _split_folders(root, names)
    found = {split: _scan(root, split_root, problems) for split, split_root in roots.items()}
    classes = sorted({path for folders in found.values() for path in folders})
    if not classes:
        raise UserError(f"folder:{folder}: no image in any class folder ({', '.join(sorted(EXTENSIONS))})")
    number = {path: label for label, path in enumerate(classes)}
    splits = {}
    for split, folders in found.items():
        items = [(file, number[path]) for path in sorted(folders) for file in folders[path]]
        splits[split] = FileSource(root, [file for file, _ in items], [label for _, label in items])
    class_names = tuple(path[-1] for path in classes)
    by_name: dict[str, list[str]] = {}
    for path in classes:
        by_name.setdefault(path[-1], []).append("/".join(path))
    for name, paths in by_name.items():
        if len(paths) > 1:
            problems.add("class name given twice", f"{name} ({' and '.join(paths)})")
    return Dataset(root.resolve().name, Classes(class_names, *_families(classes)), splits)


def _split_folders(root: Path, names: dict[str, str]) -> dict[str, Path]:
    found, missing = {}, []
    for role, name in names.items():
        if not name:
            continue
        choices = ALIASES[role] if name == role and role in ALIASES else (name,)
        path = next((root / choice for choice in choices if (root / choice).is_dir()), None)
        if path is not None:
            found[role] = path
        elif name != role:
            missing.append(name)
    if missing or ("train" not in found and any(names[role] != role for role in found)):
        raise UserError(f"folder:{root}: there is no sub-folder {' or '.join(missing or [names['train']])}")
    folders = [e.name for e in os.scandir(root) if os.path.isdir(e.path) and not e.name.startswith(".")]
    alone = folders == [names["train"]]
    named = names["train"] != "train"
    return found if "train" in found and (len(found) > 1 or alone or named) else {"train": root}


def _scan(root: Path, top: Path, problems: Problems) -> dict[tuple[str, ...], list[str]]:
    """Files, relative to `root`, by the parts of their folder's path below `top`."""
    classes: dict[tuple[str, ...], list[str]] = {}

    def visit(folder: Path, parts: tuple[str, ...], ancestors: frozenset[str]) -> None:
        shown = folder.relative_to(root).as_posix()
        above = ancestors | {os.path.realpath(folder)}
        # 1. What lies in the folder.
        try:
            folders, images = _entries(folder, shown, above, problems)
        except OSError as error:
            problems.add("folder that cannot be opened", f"{shown} ({error.strerror})")
            return
        # 2. A folder of images alone is a class; one of neither images nor folders is an empty class.
        if images and (folders or not parts):
            problems.add("image outside the class folders", f"{shown}/{images[0].name}".removeprefix("./"))
        elif images:
            classes[parts] = [(folder / e.name).relative_to(root).as_posix() for e in images]
        elif not folders and parts:
            classes[parts] = []
        # 3. The folders in it.
        for entry in folders:
            # macOS stores é as two characters; the same class must have the same name in every split
            name = unicodedata.normalize("NFC", entry.name)
            visit(folder / entry.name, (*parts, name), above)

    visit(top, (), frozenset())
    return classes


def _entries(
    folder: Path, shown: str, above: frozenset[str], problems: Problems
) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Folders and images in a folder by name, without links back to a folder `above` or to itself."""
    folders, images = [], []
    for entry in sorted((e for e in os.scandir(folder) if e.name[0] != "."), key=lambda e: e.name):
        kind = _kind(entry)
        if kind == "folder" and not (entry.is_symlink() and os.path.realpath(entry.path) in above):
            folders.append(entry)
        elif kind == "file" and Path(entry.name).suffix.lower() in EXTENSIONS:
            images.append(entry)
        elif kind in (_NOWHERE, _SPECIAL, _NOT_UTF8):
            name = os.fsencode(entry.name).decode(errors="backslashreplace")
            problems.add(kind, f"{shown}/{name}".removeprefix("./"))
    return folders, images


def _kind(entry: os.DirEntry) -> str:
    if not entry.name.isprintable() and any("\udc80" <= c <= "\udcff" for c in entry.name):
        return _NOT_UTF8
    if entry.is_file(follow_symlinks=False):  # known without asking the disk again
        return "file"
    # Of os.path, because a DirEntry raises where a link leads to itself.
    if os.path.isdir(entry.path):
        return "folder"
    if os.path.isfile(entry.path):
        return "file"
    return _SPECIAL if os.path.exists(entry.path) else _NOWHERE


def _families(
    classes: list[tuple[str, ...]],
) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    if all(len(path) == 1 for path in classes):
        return None, None
    # A class folder that lies in no other is a family of its own.
    parents = [path[:-1] or path for path in classes]
    order = sorted(set(parents))
    last = [path[-1] for path in order]
    names = tuple(p[-1] if last.count(p[-1]) == 1 else "/".join(p) for p in order)
    return tuple(order.index(path) for path in parents), names
