"""Digests of the contents of the images that a run began with, one an image, in its folder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from etils.epath import Path

from cdml_jax.data.checking.images import digest_of
from cdml_jax.data.dataset import Dataset
from cdml_jax.errors import UserError
from cdml_jax.system import console
from cdml_jax.system.archives import Archive, write_archive

FILE = "images.npz"
_BYTES = 12  # of a digest


def write(workdir: Path, dataset: Dataset) -> None:
    """Keep names and digests where they are known, unless the folder has those that its run began with.

    Raises:
      UserError: they cannot be written.
    """
    path = workdir / FILE
    if not dataset.contents or path.exists():
        return
    names = [source.name(index) for source in dataset.splits.values() for index in range(len(source))]
    digests = np.concatenate([dataset.digests(split) for split in dataset.splits])
    if np.all(digests != ""):
        packed = np.frombuffer(bytes.fromhex("".join(digests.tolist())), np.uint8).reshape(-1, _BYTES)
        write_archive(path, {"dataset": dataset.name, "names": names}, {"digests": packed})


def changed(workdir: Path, dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Names of the images that are not those that the run began with, and what is wrong with each.

    Every image is read. In which split it is does not matter.

    Args:
      workdir: where `write` kept digests.
      dataset: as it is now.

    Raises:
      DamagedError: what was kept is damaged.
      OSError: it cannot be read.
    """
    kept = Archive(workdir / FILE)
    began = {name: bytes(digest).hex() for name, digest in zip(kept.record["names"], kept["digests"])}
    now = [(source, index) for source in dataset.splits.values() for index in range(len(source))]
    for source, index in console.progressing(now, "Reading images", len(now)):
        name = source.name(index)
        try:
            digest = digest_of(source.image(index))
        except UserError as error:
            began.pop(name, None)
            yield name, str(error)
            continue
        if name not in began:
            yield name, "is new since the run began"
        elif digest != began.pop(name):
            yield name, "its content has changed since the run began"
    for name in began:
        yield name, "is gone"
