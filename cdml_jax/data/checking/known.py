"""The list of images that were found good: one that has the same size and time of change is not opened."""

from __future__ import annotations

import contextlib
import hashlib
import json

from etils import epath

from cdml_jax.data.checking.images import Checked
from cdml_jax.data.dataset import Dataset, stamp_of
from cdml_jax.system import files

_VERSION = 3  # raise it when decoding becomes stricter, or more is to be known
Stamp = tuple[str, int, int]


def list_of(dataset: Dataset, cache: epath.Path | None) -> epath.Path | None:
    """The file of a data set's list; None for no cache."""
    if cache is None:
        return None
    # By the first of all images, so that a set has one list however it is divided.
    first = min((stamp_of(s, i)[0] for s in dataset.splits.values() for i in range(len(s))), default="")
    key = hashlib.sha256(f"{dataset.name}\0{first}".encode(errors="surrogateescape")).hexdigest()
    return cache / "checked" / f"{key[:24]}.json"


def read(path: epath.Path | None) -> dict[Stamp, Checked]:
    """What is known of images by their stamps; nothing, where the list is damaged."""
    if path is None:
        return {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        head, _, body = path.read_text().partition("\n")
        head = json.loads(head)
        if head["version"] == _VERSION and head["digest"] == _digest(body):
            return {
                (where, size, changed): Checked(digest, small, tuple(traits), decoded)
                for where, (size, changed, digest, small, traits, decoded) in json.loads(body).items()
            }
    return {}


def write(path: epath.Path, images: dict[Stamp, Checked]) -> None:
    """Keeps what is known of images that can be read."""
    entries = {
        where: (size, changed, known.digest, known.small, known.traits, known.decoded)
        for (where, size, changed), known in images.items()
    }
    body = json.dumps(entries)
    # A cache folder that cannot be written costs time at the next start, nothing else.
    with contextlib.suppress(OSError), files.replacing(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"version": _VERSION, "digest": _digest(body)}) + "\n" + body)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
