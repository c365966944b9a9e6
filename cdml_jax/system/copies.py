"""Copies on this machine of what lies in a bucket and is read by libraries that know disks alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from etils import epath

from cdml_jax.errors import UserError
from cdml_jax.system import buckets, console, files

_FOLDER = "buckets"  # in the user's cache folder
_AT_ONCE = 8  # objects
_MB = 10**6


def copied(folder: epath.Path) -> epath.Path:
    """The folder itself on a disk; of one in a bucket, a copy in the user's cache folder, whole or absent.

    The copy is made once for the same objects. Of objects that were written again since, another is made.

    Raises:
      UserError: nothing lies there, the disk has no room, or the bucket cannot be read.
    """
    if not buckets.in_bucket(folder):
        return folder
    bucket, name = buckets.parts_of(folder)
    return buckets.with_client(bucket, lambda client: _copied(client, folder, bucket, name.rstrip("/") + "/"))


def _copied(client: Any, folder: epath.Path, bucket: str, prefix: str) -> epath.Path:
    objects = [
        blob
        for blob in client.list_blobs(bucket, prefix=prefix)
        if not any(part.startswith(".") or not part for part in blob.name[len(prefix) :].split("/"))
    ]
    if not objects:
        raise UserError(f"{folder}: there is no such folder in the bucket")
    known = [[blob.name, blob.generation, blob.size] for blob in objects]
    key = hashlib.sha256(json.dumps([bucket, *known]).encode()).hexdigest()[:32]
    copy = Path(files.cache_directory() / _FOLDER / key)
    if copy.is_dir():
        return epath.Path(copy)
    with files.writing(copy.parent):
        copy.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(copy.parent / f".{key}.lock", busy=None):  # by other processes of this machine
        if not copy.is_dir():
            _download(objects, copy, prefix, folder)
    return epath.Path(copy)


def _download(objects: list[Any], copy: Path, prefix: str, folder: epath.Path) -> None:
    from google.api_core.exceptions import GoogleAPIError  # here: it comes with an extra

    half = copy.with_name(f".{copy.name}.tmp")  # nobody else's, under the lock
    shutil.rmtree(half, ignore_errors=True)
    size, free = sum(blob.size for blob in objects), shutil.disk_usage(copy.parent).free
    if size > free:
        raise UserError(
            f"{folder}: a copy of it takes {size / 2**30:.1f} GiB, and {copy.parent} has {free / 2**30:.1f}: "
            "set CDML_DATA_DIR to a folder on a larger disk"
        )

    def fetch(blob: Any) -> int:
        file = half / blob.name[len(prefix) :]
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            blob.download_to_filename(os.fspath(file), if_generation_match=blob.generation)
        except GoogleAPIError as error:
            raise UserError(
                f"{folder}: {blob.name} cannot be copied ({error}); run the same command again"
            ) from error
        return blob.size

    done = 0
    with (
        console.progress(f"Copying {folder}", max(1, size // _MB), unit="MB") as shown,
        files.writing(copy.parent),
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        for fetched in pool.map(fetch, objects):
            done += fetched
            shown.advance(done // _MB - (done - fetched) // _MB)
        half.rename(copy)
    console.say(f"{folder} is read from its copy in {copy} ({size / 2**20:.1f} MiB)")
