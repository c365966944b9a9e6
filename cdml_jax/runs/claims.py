"""A folder made a run's, by the first of its processes, and kept by it alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from etils.epath import Path

from cdml_jax.configuration.settings import Settings
from cdml_jax.data.dataset import Dataset
from cdml_jax.distributed import processes
from cdml_jax.methods import Method
from cdml_jax.methods.identity import own_digest
from cdml_jax.runs import class_names, image_digests, workdir
from cdml_jax.runs.evaluation import measured_embedding


def claim(
    command: str,
    config: Settings,
    folder: Path,
    dataset: Dataset,
    method: Method | None = None,
    *,
    pooled: bool = False,
    images: bool = True,
) -> None:
    """Make a folder the run's, with what its use needs: settings, names of the classes, and of the method.

    Where `images`, the digests of single images are kept too; the runs of a table share the table's.
    """
    used = {}
    if method:
        used = {"title": method.title, "embedding": measured_embedding(config, method)}
        part, digest = method.structure.part, own_digest(method)
        used |= {"part": part} if part else {}
        used |= {"digest": digest} if digest else {}
    workdir.claim(
        folder,
        command,
        config,
        dataset.fingerprint(),
        split_checksum=dataset.checksum,
        contents=dataset.contents,
        pooled=pooled,
        method=used,
        write=processes.is_first(),
    )
    if processes.is_first():
        class_names.write(folder, dataset)
        # Not those of images that have changed since the run began, where its own digests are gone.
        if images and workdir.read(folder).get("contents") == dict(dataset.contents):
            image_digests.write(folder, dataset)
    processes.wait_for_all("claimed")


def part_of(stored: Mapping[str, Any]) -> str:
    """The part that the network of a run has besides its own, by what `claim` wrote; "" for none."""
    return stored.get("method", {}).get("part", "")


def held(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps other runs out of `folder`; in the other processes of this run, nothing."""
    return workdir.held(folder) if processes.is_first() else contextlib.nullcontext()
