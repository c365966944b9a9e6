"""Buckets of Google Cloud Storage (`gs://…`): what they need, whether one can be reached, whole objects.

A bucket has neither folders, nor renames, nor locks of its own. An object is there whole or not at all.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

from cdml_jax.errors import UserError
from cdml_jax.system import console

SCHEME = "gs"
_MARK = "://"
_ANSWER_SECONDS, _TRIES_SECONDS = 10.0, 20.0  # of one try to reach a bucket, and of all


def in_bucket(path: os.PathLike | str) -> bool:
    """Whether a path is in a bucket, not on a disk of this machine.

    >>> in_bucket("gs://bucket/run"), in_bucket("runs/one")
    (True, False)
    """
    return _MARK in os.fspath(path)


def parts_of(path: os.PathLike | str) -> tuple[str, str]:
    """The name of a path's bucket, and the name of the object in it.

    >>> parts_of("gs://bucket/runs/one")
    ('bucket', 'runs/one')
    """
    bucket, _, name = os.fspath(path).partition(_MARK)[2].partition("/")
    return bucket, name


def reach(path: os.PathLike | str) -> None:
    """Make epath read and write buckets by gcsfs, and refuse a bucket that cannot be looked into.

    Raises:
      UserError: a library is not installed; the bucket is not there, or this account may not list it.
    """
    missing = [name for name in ("gcsfs", "google.cloud.storage") if not _is_installed(name)]
    if missing:
        raise UserError(
            f"{os.fspath(path)}: a bucket needs {' and '.join(missing)}: pip install 'cdml_jax[gcs]'"
        )
    bucket, _ = parts_of(path)
    if not bucket:
        raise UserError(f"{os.fspath(path)} names no bucket: write gs://BUCKET/FOLDER")
    # One way for everyone: TensorFlow, where it is installed, would serve epath by code of its own.
    os.environ.setdefault("EPATH_USE_TF", "false")
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google for each bucket's kind
    import fsspec.config  # here: it comes with the extra

    # What TensorStore or another process has written since is not in a listing that was kept.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    _refuse_unreachable(bucket)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above
        return False


@functools.cache  # once for each bucket that can be reached
def _refuse_unreachable(bucket: str) -> None:
    how = _patience()

    def look(client: Any) -> None:
        try:
            blobs = client.list_blobs(bucket, max_results=1, **how)
        except ValueError as error:  # of the name alone, before anybody is asked
            raise UserError(f"gs://{bucket}: {_first_line(error)}") from error
        next(iter(blobs), None)

    # Without a service account, Google's library asks the machine for one three times, for seconds each.
    with console.working(f"Asking Google Cloud for gs://{bucket}"):
        with_client(bucket, look)


def _patience() -> dict[str, Any]:
    """How long a bucket that is asked for the first time may take to answer: a mistake shows at once."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {"timeout": _ANSWER_SECONDS, "retry": DEFAULT_RETRY.with_timeout(_TRIES_SECONDS)}


@functools.cache
def refuse_without_rights(bucket: str) -> None:
    """Refuse a bucket whose properties cannot be read: Orbax reads them before it deletes a checkpoint.

    Raises:
      UserError: they cannot.
    """
    with_client(bucket, lambda client: client.get_bucket(bucket, **_patience()))


def with_client(bucket: str, ask: Any) -> Any:
    """What `ask` gives of Google's client.

    Raises:
      UserError: the bucket is not there, cannot be reached, or this account may not do that.
    """
    import requests
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage

    try:
        return ask(storage.Client(project=None))  # objects are in a bucket; a project need not be known
    except api.NotFound:
        raise UserError(f"gs://{bucket}: there is no such bucket; make it, or choose another") from None
    except (api.Forbidden, api.Unauthorized) as error:
        raise UserError(
            f"gs://{bucket}: this account may not use it ({_first_line(error)}); give it the roles "
            "roles/storage.objectUser and roles/storage.legacyBucketReader"
        ) from error
    except GoogleAuthError as error:
        raise UserError(
            f"gs://{bucket}: Google Cloud does not know who asks ({_first_line(error)}); give the machine a "
            "service account, or run `gcloud auth application-default login`"
        ) from error
    except (api.GoogleAPIError, requests.RequestException, OSError) as error:
        why = _first_line(getattr(error, "cause", None) or error)  # of the last try
        raise UserError(
            f"gs://{bucket} cannot be reached ({why}); run the same command again once it can"
        ) from error


def _first_line(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", "") or error).split())[:200]


def upload(file: os.PathLike | str, path: os.PathLike | str) -> None:
    """Write a file of this machine as one object; whoever reads sees the old one or the whole new one."""
    import fsspec

    fsspec.filesystem("gcs").put_file(os.fspath(file), os.fspath(path))


def upload_folder(folder: os.PathLike | str, path: os.PathLike | str, *, last: str = "") -> None:
    """Write the files of a folder of this machine below a path, in place of what lay there.

    Args:
      folder: of this machine.
      path: in a bucket.
      last: the file that marks the whole: it goes first, and comes last.
    """
    import fsspec

    there = fsspec.filesystem("gcs")
    found = (each.relative_to(folder).as_posix() for each in Path(folder).rglob("*") if each.is_file())
    names = sorted(found, key=lambda name: (name == last, name))
    if last and there.exists(f"{os.fspath(path)}/{last}"):
        there.rm(f"{os.fspath(path)}/{last}")
    if there.exists(os.fspath(path)):
        there.rm(os.fspath(path), recursive=True)
    for name in names:
        there.put_file(os.fspath(Path(folder) / name), f"{os.fspath(path)}/{name}")
