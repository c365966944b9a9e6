"""Settings that say where something lies, which a command in another folder must understand too."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
from collections.abc import Mapping
from typing import Any

from cdml_jax.data.published.catalogue import SETS
from cdml_jax.errors import UserError
from cdml_jax.models.weights.files import HUB, SHIPPED
from cdml_jax.models.weights.imagenet import IMAGENET
from cdml_jax.system.buckets import in_bucket
from cdml_jax.system.files import absolute, path_of
from cdml_jax.training.settings import FILE

_SOURCES = ("folder", "list", "array_record", *SETS)


def from_the_root(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings whose folders and files do not depend on the folder in which a command was given.

    >>> from cdml_jax.configuration.keys import defaults
    >>> from_the_root(defaults() | {"source": "folder:/birds/../owls"})["source"]
    'folder:/owls'
    """
    whole = copy.deepcopy(dict(values))
    kind, colon, folder = whole["source"].partition(":")
    if kind in _SOURCES and folder:
        whole["source"] = kind + colon + _whole(folder)
    model, confusion, data = whole["model"], whole["confusion"], whole["data"]
    if is_file(model["weights"]):
        model["weights"] = _whole(model["weights"])
    if confusion["source"].startswith(FILE):
        confusion["source"] = FILE + _whole(confusion["source"].removeprefix(FILE))
    for key in ("data_dir", "boxes"):
        if data[key]:
            data[key] = _whole(data[key])
    return whole


def folder_of(source: str) -> str:
    """The folder that a source names; "" where it names none."""
    kind, _, folder = source.partition(":")
    return folder if kind in _SOURCES else ""


def is_file(weights: str) -> bool:
    """Whether weights are a file or a folder of this machine, not `imagenet`, a shipped name or the hub's."""
    return weights not in ("", IMAGENET, *SHIPPED) and not weights.startswith(HUB)


def digests(values: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files that plain settings name, by their keys; of those that can be read."""
    files = {"model.weights": values["model"]["weights"] if is_file(values["model"]["weights"]) else ""}
    source = values["confusion"]["source"]
    files["data.boxes"] = values["data"]["boxes"]
    files["confusion.source"] = source.removeprefix(FILE) if source.startswith(FILE) else ""
    found = {key: _digest(file) for key, file in files.items() if file}
    return {key: digest for key, digest in found.items() if digest}


def _digest(file: str) -> str:
    try:
        if in_bucket(file):
            return hashlib.sha256(path_of(file).read_bytes()).hexdigest()
        status = os.stat(path_of(file))
        return _digest_of(os.fspath(path_of(file)), status.st_size, status.st_mtime_ns)
    except (OSError, UserError):
        return ""


@functools.cache
def _digest_of(file: str, _size: int, _changed: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _whole(path: str) -> str:
    try:
        return os.fspath(absolute(path_of(path)))
    except UserError:  # a home folder that is not known: who reads it says so
        return path
