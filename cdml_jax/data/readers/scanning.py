"""What lies in folders: images, class folders, what is passed over, and what cannot be opened."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.images.kinds import NO_ENDING, is_readable, left_out

PASSED_OVER = "folder that a system or a program keeps for itself, passed over"
HIDDEN = "hidden image, or hidden folder with images, passed over"

_NOT_UTF8 = "name that is not UTF-8"
_NOWHERE = "link that leads nowhere"
_SPECIAL = "neither a file nor a folder"  # a pipe, a socket, a device: to open it might never end
_UNOPENED = "folder that cannot be opened"

# Of macOS, Windows, Linux, Android, and network storage by Synology, QNAP, NetApp and others, in lower case.
_KEPT = frozenset(
    (
        "__macosx",
        "@eadir",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "@__thumb",
        "@tmp",
        "~snapshot",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "lost+found",
        "lost.dir",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        "__pycache__",
        "captureone",
    )
)


_RECOVERED = re.compile(r"found\.\d{3}")  # of Windows: FOUND.000 and on


@dataclasses.dataclass
class Folder:
    """A folder with what lies in it, hidden entries left out.

    Attributes:
      name: its own.
      path: relative to the folder where the scan began, "" for that one.
      images: paths of the images in it, in the order of their names.
      folders: those in it, likewise.
      others: the endings of its files that are no images.
      opened: whether it could be opened.
    """

    name: str
    path: str
    images: list[str] = dataclasses.field(default_factory=list)
    folders: list[Folder] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    opened: bool = True

    def holds_images(self) -> bool:
        """Whether there is an image in it, to any depth."""
        return bool(self.images) or any(folder.holds_images() for folder in self.folders)

    def all_images(self) -> Iterator[str]:
        """The images in it, to any depth."""
        yield from self.images
        for folder in self.folders:
            yield from folder.all_images()


def scan(root: Path, problems: Problems) -> Folder:
    """Everything below a folder. Links are followed, but for those that lead back to a folder above.

    Args:
      root: the folder.
      problems: collects what cannot be opened, and what is left out.
    """

    def visit(name: str, path: str, ancestors: frozenset[str]) -> Folder:
        folder, place = Folder(name, path), root / path
        above = ancestors | {os.path.realpath(place)}
        try:
            entries = sorted(os.scandir(place), key=lambda e: e.name)
        except OSError as error:
            problems.add(_UNOPENED, f"{path or '.'} ({error.strerror})")
            return dataclasses.replace(folder, opened=False)
        for entry in entries:
            below = f"{path}/{entry.name}".removeprefix("/")
            if entry.name[0] == ".":
                if _hides_images(entry):
                    problems.note(HIDDEN, below)
                continue
            kind = _kind(entry)
            if kind == "folder" and _is_kept(entry.name.lower()):
                problems.note(PASSED_OVER, below)
            elif kind == "folder" and not (entry.is_symlink() and os.path.realpath(entry.path) in above):
                folder.folders.append(visit(entry.name, below, above))
            elif kind == "file" and is_readable(entry.name):
                folder.images.append(below)
            elif kind == "file" and (ending := left_out(entry.path)):
                problems.leave_out(ending, below)
            elif kind == "file":
                folder.others.append(os.path.splitext(entry.name)[1].lower() or NO_ENDING)
            elif kind in (_NOWHERE, _SPECIAL, _NOT_UTF8):
                problems.add(kind, os.fsencode(below).decode(errors="backslashreplace"))
        return folder

    return visit(root.name, "", frozenset())


def _is_kept(name: str) -> bool:
    return name in _KEPT or bool(_RECOVERED.fullmatch(name))


def _hides_images(entry: os.DirEntry[str]) -> bool:
    """Whether a hidden entry is an image or a folder with one; links are not followed."""
    if entry.name.startswith("._"):  # what macOS keeps of the file called so, one for each image
        return False
    if entry.is_dir(follow_symlinks=False):
        return any(
            is_readable(file) for _, _, files in os.walk(entry.path) for file in files if file[0] != "."
        )
    return is_readable(entry.name)


def _kind(entry: os.DirEntry[str]) -> str:
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
