"""Which sub-folders of a folder of images are its splits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.dividing.splits import ALIASES
from cdml_jax.data.readers.scanning import Folder
from cdml_jax.errors import UserError

_LEFT_OUT = "folder that is not a split, left out"
_OUTSIDE = "image outside the split folders, left out"
_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
# What may stand around such a word in a split's name.
_AROUND = re.compile(
    r"(?:sets?|data|dataset|images?|imgs?|photos?|pictures?|splits?|subset|folder|full|all|raw|final|\d+)?"
)


def role_of(name: str) -> str:
    """The split that a folder's name seems to stand for; "" for none.

    >>> role_of("Training Set"), role_of("val2017"), role_of("02_test_images"), role_of("testudo")
    ('train', 'validation', 'test', '')
    """
    words = re.findall(r"[^\W\d_]+|\d+", name.lower())
    for end in ("sets", "set", "data", "images"):  # as in trainset
        words = [w.removesuffix(end) if w.removesuffix(end) in _WORDS else w for w in words]
    roles = [_WORDS[word] for word in words if word in _WORDS]
    others = [word for word in words if word not in _WORDS]
    return roles[0] if len(roles) == 1 and all(map(_AROUND.fullmatch, others)) else ""


def split_folders(
    where: str, root: Folder, names: Mapping[str, str], problems: Problems
) -> dict[str, Folder]:
    """The folders of the splits; the whole folder as "train" where it has none.

    The sub-folder of the training split makes it one with splits if that of another split is there too, if
    nothing else holds images, or if it was asked for by another name than "train".

    Args:
      where: the data set as its user called it.
      root: the folder.
      names: the splits' names by role; "" for none.
      problems: collects what is left out.

    Raises:
      UserError: a split that was asked for is not there, or sub-folders look like splits and are none.
    """
    by_name = {folder.name: folder for folder in root.folders}
    found, missing = {}, []
    for role, name in names.items():
        if not name:
            continue
        choices = ALIASES[role] if name == role and role in ALIASES else (name,)
        folder = next((by_name[choice] for choice in choices if choice in by_name), None)
        if folder is not None:
            found[role] = folder
        elif name != role:
            missing.append(name)
    if missing or ("train" not in found and any(names[role] != role for role in found)):
        raise UserError(f"{where}: there is no sub-folder {' or '.join(missing or [names['train']])}")
    taken = {folder.name for folder in found.values()}
    others = [f.name for f in root.folders if f.name not in taken and f.holds_images()]
    if "train" in found:
        alone = not others and (len(root.folders) == 1 or not found["train"].images)
        if len(found) > 1 or alone or names["train"] != "train":
            _refuse_two_of_a_split(where, found, names, others)
            # Another name for a split that is lacking: to leave it out would draw that split from train.
            lacking = [name for name in others if role_of(name) and role_of(name) not in found]
            lacking = [name for name in lacking if names[role_of(name)] == role_of(name)]
            if lacking:
                raise UserError(f"{where}: {_beside(lacking)}")
            for name in others:
                problems.note(_LEFT_OUT, name)
            for image in root.images:
                problems.note(_OUTSIDE, image)
            return found
        if others and not found["train"].images:
            raise UserError(f"{where}: {_beside(others)}")
    else:
        alike = [f.name for f in root.folders if f.folders and not f.images and role_of(f.name)]
        roles = {role_of(name) for name in alike}
        if "train" in roles and len(roles) > 1:
            raise UserError(f"{where}: {_like_splits(alike)}")
        if len(roles) > 1:
            raise UserError(f"{where}: {' and '.join(alike)} look like splits, but there is no train")
    return {"train": root}


def _refuse_two_of_a_split(
    where: str, found: Mapping[str, Folder], names: Mapping[str, str], others: Iterable[str]
) -> None:
    for role, choices in ALIASES.items():
        other = next((name for name in others if name in choices), None)
        if other and role in found and names[role] == role:
            raise UserError(
                f"{where}: {found[role].name} and {other} are both there: move one of them out, or name the "
                f"split, {_flag(role, other)}"
            )


def _beside(others: list[str]) -> str:
    likely = next((name for name in others if role_of(name)), others[0])
    role = role_of(likely)
    role = role if role and role != "train" else "validation"
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return (
        f"train beside {shown}: is {likely} a split? rename it to {role}, or name it by "
        f"{_flag(role, likely)}; else move it out, or rename train if it is not a split"
    )


def _like_splits(names: Iterable[str]) -> str:
    roles = sorted(((role_of(name), name) for name in names), key=lambda pair: list(ALIASES).index(pair[0]))
    flags = " ".join(_flag(role, name) for role, name in roles if name != role)
    renamed = " and ".join(dict.fromkeys(role for role, _ in roles))
    return f"{' and '.join(name for _, name in roles)} look like splits: rename them to {renamed}, or {flags}"


def _flag(role: str, name: str) -> str:
    return f"--config.data.{role}={shlex.quote(name)}"
